use milvus::v2::types::{ConsistencyLevel, IndexType};

use crate::{Error, Result, Space, error::list};

/// A vector's partition, unless the address names one.
const DEFAULT_PARTITION: &str = "_default";

/// The vectors that an address names: a partition of a collection on Milvus servers, and how it is
/// made and read.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The address.
    pub uri: String,
    /// `http://HOST:PORT`.
    pub server: String,
    pub collection: String,
    pub partition: String,
    pub index: &'static Index,
    /// What the index is built with: names and values.
    pub build: Vec<(&'static str, String)>,
    pub shards: i32,
    pub consistency: ConsistencyLevel,
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
}

const HNSW: Index = Index {
    name: "HNSW",
    kind: IndexType::Hnsw,
    build: &[("M", "16"), ("efConstruction", "200")],
    search: Some(("ef_search", "ef", 64)),
};

static INDEXES: [Index; 6] = [
    HNSW,
    Index { name: "FLAT", kind: IndexType::Flat, build: &[], search: None },
    Index {
        name: "IVF_FLAT",
        kind: IndexType::IvfFlat,
        build: &[("nlist", "1024")],
        search: Some(("nprobe", "nprobe", 16)),
    },
    Index {
        name: "IVF_SQ8",
        kind: IndexType::IvfSq8,
        build: &[("nlist", "1024")],
        search: Some(("nprobe", "nprobe", 16)),
    },
    Index {
        name: "IVF_PQ",
        kind: IndexType::IvfPq,
        build: &[("nlist", "1024"), ("m", "64"), ("nbits", "8")],
        search: Some(("nprobe", "nprobe", 16)),
    },
    Index {
        name: "DISKANN",
        kind: IndexType::DiskAnn,
        build: &[],
        search: Some(("ef_search", "search_list", 64)),
    },
];

impl Target {
    /// Reads `http://HOST:PORT/COLLECTION[/PARTITION][?index=HNSW&M=32&shards=2&…]`.
    ///
    /// # Errors
    /// [`Error::MilvusAddress`].
    pub fn parse(uri: &str) -> Result<Self> {
        let wrong = |why: String| Error::MilvusAddress { uri: uri.into(), why };
        let (address, settings) = uri.split_once('?').unwrap_or((uri, ""));
        let (server, collection, partition) =
            split(address).ok_or_else(|| wrong("it names no server and collection".into()))?;
        let mut target = Self {
            uri: uri.into(),
            server: server.into(),
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

    fn set(&mut self, settings: &[(&str, &str)]) -> Result<(), String> {
        if let Some((_, name)) = settings.iter().find(|(key, _)| *key == "index") {
            self.index = index(name)?;
        }
        let of_index = |&(key, value): &(&'static str, &str)| (key, value.to_owned());
        self.build = self.index.build.iter().map(of_index).collect();
        settings.iter().try_for_each(|&(key, value)| self.set_one(key, value))
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
        format!("there is no index `{name}`, but {}", list(INDEXES.iter().map(|index| index.name)))
    })
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
                "`URI` is no collection on Milvus servers: there is no index `LSH`, but HNSW, FLAT, IVF_FLAT, IVF_SQ8, IVF_PQ, DISKANN{end}"
            )
        );
        assert_eq!(
            said("nlist=3"),
            format!(
                "`URI` is no collection on Milvus servers: HNSW has no setting `nlist`; there are index, shards, consistency and, of this index, M, efConstruction{end}"
            )
        );
        assert!(said("shards=0").contains("`0` is no number of shards"));
        assert!(said("shards").contains("a setting has no value"));
        assert!(said("consistency=weak").contains("but strong, session, bounded and eventually"));
    }
}
