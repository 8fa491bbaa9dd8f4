use std::{env, fmt};

use milvus::v2::types::{ConsistencyLevel, IndexType};

use crate::{Error, Result, Space, error::list, spec::without_token};

/// A vector's partition, unless the address names one.
const DEFAULT_PARTITION: &str = "_default";
/// Who is asking, unless the address says it.
const TOKEN: &str = "MILVUS_TOKEN";

/// The vectors that an address names: a partition of a collection on Milvus servers, and how it is
/// made and read.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The address, without who is asking.
    pub uri: String,
    /// `http://HOST:PORT`.
    pub server: String,
    pub token: Option<Token>,
    pub collection: String,
    pub partition: String,
    pub index: &'static Index,
    /// What the index is built with: names and values.
    pub build: Vec<(&'static str, String)>,
    pub shards: i32,
    pub consistency: ConsistencyLevel,
}

/// `USER:PASSWORD`, or the key of an API; not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// An index type of Milvus.
#[derive(Debug)]
pub(super) struct Index {
    pub name: &'static str,
    pub kind: IndexType,
    /// What it is built with, unless the address says otherwise.
    build: &'static [(&'static str, &'static str)],
    /// What one may set for a search: our name, the server's, and the value if nobody does.
    pub search: Option<(&'static str, &'static str, usize)>,
    /// Does Milvus Lite have it?
    pub lite: bool,
}

const HNSW: Index = Index {
    name: "HNSW",
    kind: IndexType::Hnsw,
    build: &[("M", "16"), ("efConstruction", "200")],
    search: Some(("ef_search", "ef", 64)),
    lite: true,
};

static INDEXES: [Index; 6] = [
    HNSW,
    Index { name: "FLAT", kind: IndexType::Flat, build: &[], search: None, lite: true },
    Index {
        name: "IVF_FLAT",
        kind: IndexType::IvfFlat,
        build: &[("nlist", "1024")],
        search: Some(("nprobe", "nprobe", 16)),
        lite: true,
    },
    Index {
        name: "IVF_SQ8",
        kind: IndexType::IvfSq8,
        build: &[("nlist", "1024")],
        search: Some(("nprobe", "nprobe", 16)),
        lite: true,
    },
    Index {
        name: "IVF_PQ",
        kind: IndexType::IvfPq,
        build: &[("nlist", "1024"), ("m", "64"), ("nbits", "8")],
        search: Some(("nprobe", "nprobe", 16)),
        lite: false,
    },
    Index {
        name: "DISKANN",
        kind: IndexType::DiskAnn,
        build: &[],
        search: Some(("ef_search", "search_list", 64)),
        lite: false,
    },
];

impl Target {
    /// Reads `http://[TOKEN@]HOST:PORT/COLLECTION[/PARTITION][?index=HNSW&M=32&shards=2&…]`.
    ///
    /// # Errors
    /// [`Error::MilvusAddress`].
    pub fn parse(uri: &str) -> Result<Self> {
        let (uri, token) = without_token(uri);
        let wrong = |why: String| Error::MilvusAddress { uri: uri.clone(), why };
        let (address, settings) = uri.split_once('?').unwrap_or((&uri, ""));
        let (server, collection, partition) =
            split(address).ok_or_else(|| wrong("it names no server and collection".into()))?;
        let mut target = Self {
            uri: uri.clone(),
            server: server.into(),
            token: token.map(str::to_owned).or_else(|| env::var(TOKEN).ok()).map(Token),
            collection: collection.into(),
            partition: partition.into(),
            index: &INDEXES[0],
            build: vec![],
            shards: 1,
            consistency: ConsistencyLevel::Session,
        };
        let settings = settings.split('&').filter(|setting| !setting.is_empty());
        let settings: Option<Vec<_>> = settings.map(|setting| setting.split_once('=')).collect();
        let settings = settings.ok_or_else(|| wrong("a setting has no value".into()))?;
        target.set(&settings).map_err(wrong)?;
        Ok(target)
    }

    /// The same collection's partition of a space.
    pub fn of(&self, space: Space) -> Self {
        Self { partition: space.to_string(), ..self.clone() }
    }

    /// The same, read so that all is seen that was written before.
    pub fn strong(self) -> Self {
        Self { consistency: ConsistencyLevel::Strong, ..self }
    }

    /// Refuses vectors that the index can't be of. Servers notice it only when all are there.
    ///
    /// # Errors
    /// [`Error::MilvusAddress`].
    pub fn check_width(&self, dim: usize) -> Result<()> {
        let parts = self.build.iter().find(|(name, _)| *name == "m");
        let uneven = |(_, parts): &&(_, String)| {
            parts.parse::<usize>().is_ok_and(|parts| parts == 0 || !dim.is_multiple_of(parts))
        };
        let Some((_, parts)) = parts.filter(uneven) else { return Ok(()) };
        let why = format!("vectors of {dim} dimensions can't be cut into m={parts} equal parts");
        Err(Error::MilvusAddress { uri: self.uri.clone(), why })
    }

    /// Names of the index types that Milvus Lite has.
    pub fn of_lite() -> Vec<&'static str> {
        INDEXES.iter().filter(|index| index.lite).map(|index| index.name).collect()
    }

    fn set(&mut self, settings: &[(&str, &str)]) -> Result<(), String> {
        let index = settings.iter().find(|(key, _)| *key == "index").map(|(_, name)| *name);
        let (index, given) = named(index.unwrap_or(HNSW.name))?;
        self.index = index;
        let of_index = |&(key, value): &(&'static str, &str)| (key, value.to_owned());
        self.build = index.build.iter().map(of_index).collect();
        given.iter().chain(settings).try_for_each(|&(key, value)| self.set_one(key, value))
    }

    fn set_one(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "index" => {}
            "shards" => {
                let shards = value.parse().ok().filter(|shards| *shards > 0);
                self.shards = shards.ok_or(format!("`{value}` is no number of shards"))?;
            }
            "consistency" => self.consistency = consistency(value)?,
            _ => {
                let setting = self.build.iter_mut().find(|(name, _)| *name == key);
                let (_, old) = setting.ok_or(format!(
                    "{} has no setting `{key}`; there are index, shards, consistency and, of this \
                     index, {}",
                    self.index.name,
                    list(self.index.build.iter().map(|(name, _)| *name))
                ))?;
                *old = value.into();
            }
        }
        Ok(())
    }
}

/// Server, collection and partition.
fn split(address: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let (collection, partition) = path.split_once('/').unwrap_or((path, DEFAULT_PARTITION));
    let whole = !host.is_empty() && !collection.is_empty() && !partition.is_empty();
    whole.then(|| (&address[..scheme.len() + 3 + host.len()], collection, partition))
}

/// The index type of a name.
pub(super) fn index(name: &str) -> Result<&'static Index, String> {
    INDEXES.iter().find(|index| index.name == name).ok_or_else(|| {
        format!(
            "there is no index `{name}`, but {}, and of FAISS' Flat, HNSW32, IVF1024,Flat, \
             IVF1024,SQ8 and IVF1024,PQ64 with other numbers",
            list(INDEXES.iter().map(|index| index.name))
        )
    })
}

/// What an index is built with, as far as its name says.
type Settings<'a> = Vec<(&'static str, &'a str)>;

/// The index type of a name, or of FAISS' factory string for the same.
fn named(name: &str) -> Result<(&'static Index, Settings<'_>), String> {
    let (theirs, settings) = of_factory(name).unwrap_or((name, vec![]));
    Ok((index(theirs)?, settings))
}

fn of_factory(factory: &str) -> Option<(&'static str, Settings<'_>)> {
    if factory == "Flat" {
        return Some(("FLAT", vec![]));
    }
    let graph = factory.strip_suffix(",Flat").unwrap_or(factory);
    if let Some(links) = number_behind("HNSW", graph) {
        return Some(("HNSW", vec![("M", links)]));
    }
    let (lists, codes) = factory.split_once(',')?;
    let lists = ("nlist", number_behind("IVF", lists)?);
    match codes {
        "Flat" => Some(("IVF_FLAT", vec![lists])),
        "SQ8" => Some(("IVF_SQ8", vec![lists])),
        _ => {
            let (parts, bits) = codes.split_once('x').unwrap_or((codes, "8"));
            let (parts, bits) = (number_behind("PQ", parts)?, number_behind("", bits)?);
            Some(("IVF_PQ", vec![lists, ("m", parts), ("nbits", bits)]))
        }
    }
}

fn number_behind<'a>(prefix: &str, text: &'a str) -> Option<&'a str> {
    text.strip_prefix(prefix).filter(|number| number.parse::<u32>().is_ok())
}

fn consistency(name: &str) -> Result<ConsistencyLevel, String> {
    match name {
        "strong" => Ok(ConsistencyLevel::Strong),
        "session" => Ok(ConsistencyLevel::Session),
        "bounded" => Ok(ConsistencyLevel::Bounded),
        "eventually" => Ok(ConsistencyLevel::Eventually),
        _ => Err(format!(
            "there is no consistency `{name}`, but strong, session, bounded and eventually"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_and_how() {
        let target = Target::parse(
            "https://milvus.example:443/shelf/texts?index=IVF_SQ8&nlist=64&shards=2&consistency=strong",
        )
        .unwrap();
        assert_eq!(target.server, "https://milvus.example:443");
        assert_eq!((&*target.collection, &*target.partition), ("shelf", "texts"));
        assert_eq!(target.build, [("nlist", "64".to_owned())]);
        assert_eq!((target.index.name, target.shards), ("IVF_SQ8", 2));
        assert_eq!(target.consistency, ConsistencyLevel::Strong);
    }

    #[test]
    fn most_need_not_be_said() {
        let target = Target::parse("http://localhost:19530/shelf").unwrap();
        assert_eq!((&*target.partition, target.index.name), ("_default", "HNSW"));
        assert_eq!(target.build, [("M", "16".into()), ("efConstruction", "200".into())]);
        assert_eq!(target.consistency, ConsistencyLevel::Session);
        assert_eq!(target.of(Space::Pictures).partition, "pictures");
    }

    #[test]
    fn an_index_by_its_factory_string() {
        let built = |index: &str| {
            let target = Target::parse(&format!("http://h:1/c?index={index}")).unwrap();
            let settings = target.build.iter().map(|(name, value)| format!(" {name}={value}"));
            target.index.name.to_owned() + &settings.collect::<String>()
        };
        assert_eq!(built("Flat"), "FLAT");
        assert_eq!(built("HNSW32"), "HNSW M=32 efConstruction=200");
        assert_eq!(built("HNSW8,Flat&efConstruction=40"), "HNSW M=8 efConstruction=40");
        assert_eq!(built("IVF64,Flat"), "IVF_FLAT nlist=64");
        assert_eq!(built("IVF1024,SQ8"), "IVF_SQ8 nlist=1024");
        assert_eq!(built("IVF64,PQ16"), "IVF_PQ nlist=64 m=16 nbits=8");
        assert_eq!(built("IVF64,PQ16x4"), "IVF_PQ nlist=64 m=16 nbits=4");
    }

    #[test]
    fn parts_of_a_vector_are_equally_wide() {
        let check = |settings: &str, dim| {
            Target::parse(&format!("http://h:1/c?{settings}")).unwrap().check_width(dim)
        };
        assert!(check("index=IVF_PQ", 512).is_ok() && check("index=IVF64,PQ16", 48).is_ok());
        assert!(check("index=HNSW", 7).is_ok());
        let error = check("index=IVF_PQ", 96).unwrap_err().to_string();
        let why = ": vectors of 96 dimensions can't be cut into m=64 equal parts; write it as ";
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn who_is_asking_is_not_shown() {
        let target = Target::parse("https://root:a@b@milvus.example:443/shelf?index=FLAT").unwrap();
        assert_eq!(target.uri, "https://milvus.example:443/shelf?index=FLAT");
        assert_eq!(target.server, "https://milvus.example:443");
        assert_eq!(target.token, Some(Token("root:a@b".into())));
        assert!(!format!("{target:?}").contains("a@b"));
        let refused = Target::parse("https://key@milvus.example:443").unwrap_err().to_string();
        assert!(refused.contains("`https://milvus.example:443` is no collection"), "{refused}");
        assert_eq!(without_token("http://h:1/c?a@b"), ("http://h:1/c?a@b".into(), None));
    }

    #[test]
    fn sentences() {
        let said = |settings: &str| {
            let uri = format!("http://h:1/c?{settings}");
            Target::parse(&uri).unwrap_err().to_string().replace(&uri, "URI")
        };
        let end = "; write it as http://HOST:PORT/COLLECTION, such as \
                   http://localhost:19530/shelf or http://localhost:19530/shelf?index=IVF_SQ8&nlist=4096";
        assert_eq!(
            Target::parse("http://localhost:19530").unwrap_err().to_string(),
            format!(
                "`http://localhost:19530` is no collection on Milvus servers: it names no server and collection{end}"
            )
        );
        assert_eq!(
            said("index=LSH"),
            format!(
                "`URI` is no collection on Milvus servers: there is no index `LSH`, but HNSW, FLAT, IVF_FLAT, IVF_SQ8, IVF_PQ, DISKANN, and of FAISS' Flat, HNSW32, IVF1024,Flat, IVF1024,SQ8 and IVF1024,PQ64 with other numbers{end}"
            )
        );
        assert_eq!(
            said("nlist=3"),
            format!(
                "`URI` is no collection on Milvus servers: HNSW has no setting `nlist`; there are index, shards, consistency and, of this index, M, efConstruction{end}"
            )
        );
        assert_eq!(
            said("index=OPQ64,IVF64,PQ64"),
            said("index=LSH").replace("LSH", "OPQ64,IVF64,PQ64")
        );
        assert!(said("shards=0").contains("`0` is no number of shards"));
        assert!(said("shards").contains("a setting has no value"));
        assert!(said("consistency=weak").contains("but strong, session, bounded and eventually"));
    }
}
