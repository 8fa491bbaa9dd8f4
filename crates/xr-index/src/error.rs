use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use xr_data::Fingerprint;

use crate::spec::without_token;

/// What can go wrong with an index, each as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Queries, or vectors to add, of another width than the vectors of the gallery.
    #[error(
        "the queries have {queries} dimensions and the gallery {gallery}; \
         embed both with the same model"
    )]
    Dimensions {
        /// Width of the queries.
        queries: usize,
        /// Width of the gallery.
        gallery: usize,
    },
    /// A row that has no meaningful similarity to anything.
    #[error(
        "row {row} of the {side} is not finite: it holds NaN or infinity, or its squared length \
         passes the largest f32; leave it out, or look for a division by zero where it was embedded"
    )]
    NotFinite {
        /// Where the row was found.
        side: Side,
        /// Its position.
        row: usize,
    },
    /// Rows of another model than those they are to be compared with.
    #[error(
        "model {} made these embeddings, and the query bank is of model {}; embed both with the \
         same model",
        found.short(),
        expected.short()
    )]
    OtherModel {
        /// Of the bank.
        expected: Fingerprint,
        /// Of the rows.
        found: Fingerprint,
    },
    /// Another number of ids than of vectors.
    #[error("{ids} ids came with {vectors} vectors; give each vector one")]
    IdCount {
        /// Number of ids.
        ids: usize,
        /// Number of vectors.
        vectors: usize,
    },
    /// An id for two vectors.
    #[error("two vectors have the id {id}; give each its own, or remove the old one first")]
    DuplicateId {
        /// The id.
        id: u64,
    },
    /// A name that is no [`Metric`](crate::Metric).
    #[error("`{0}` is no metric; there are inner-product, cosine and l2")]
    UnknownMetric(String),
    /// A name that is no [`IndexSpec`](crate::IndexSpec).
    #[error(
        "`{0}` is no index; there are exact, exact-i8, what FAISS' index factory takes, such as \
         HNSW32 or IVF1024,SQ8, and collections on Milvus servers, such as \
         http://localhost:19530/shelf"
    )]
    UnknownIndex(String),
    /// Text that is no search parameter.
    #[error("`{0}` is no search parameter; there are nprobe=N, ef_search=N and rerank=N, N from 1")]
    UnknownParameter(String),
    /// A search parameter of another kind of index.
    #[error("the index {index} has no parameter {name}; it has {}", list(has.iter().copied()))]
    NotAParameter {
        /// The parameter.
        name: &'static str,
        /// The index.
        index: String,
        /// Those that it has.
        has: Vec<&'static str>,
    },
    /// An index of FAISS, and no FAISS.
    #[error(
        "{0} is an index of FAISS, which this program was built without; build it with \
         `--features faiss`, or use exact or exact-i8"
    )]
    WithoutFaiss(String),
    /// What FAISS refuses to do.
    #[error("FAISS, about {index}: {why}")]
    Faiss {
        /// The index, or its file.
        index: String,
        /// What FAISS said.
        why: String,
    },
    /// A FAISS that was compiled for another CPU.
    #[error(
        "FAISS was compiled for {faiss} and this CPU has {cpu}: it would be several times slower \
         than it could be, or not run at all; build it with the environment variable CXXFLAGS set \
         to what the CPU has, such as `-mavx2 -mfma -mf16c -mpopcnt`"
    )]
    FaissSimd {
        /// What FAISS was compiled for.
        faiss: &'static str,
        /// What this CPU has.
        cpu: &'static str,
    },
    /// A collection on Milvus servers, and no client for them.
    #[error(
        "{} is a collection on Milvus servers, for which this program was built without a client; \
         build it with `--features milvus`",
        without_token(.0).0
    )]
    WithoutMilvus(String),
    /// Text that is no address of a collection.
    #[error(
        "`{uri}` is no collection on Milvus servers: {why}; write it as \
         http://HOST:PORT/COLLECTION, such as http://localhost:19530/shelf or \
         http://localhost:19530/shelf?index=IVF_SQ8&nlist=4096"
    )]
    MilvusAddress {
        /// The text.
        uri: String,
        /// What is wrong with it.
        why: String,
    },
    /// No server at an address.
    #[error(
        "{server}: no Milvus server has answered within 10 s; is it running there? It listens on \
         port 19530 unless told otherwise"
    )]
    MilvusUnreachable {
        /// Its address.
        server: String,
    },
    /// What a Milvus server refuses to do, or has failed to do for minutes.
    #[error("Milvus, about {collection}: {why}")]
    Milvus {
        /// The address of the collection.
        collection: String,
        /// What the server said.
        why: String,
    },
    /// An index type that the small server doesn't have.
    #[error(
        "{collection}: Milvus Lite has no index {index}, but {}; name one of these, or another \
         server",
        list(has.iter().copied())
    )]
    NotInLite {
        /// The address of the collection.
        collection: String,
        /// The index type.
        index: &'static str,
        /// Those that it has.
        has: Vec<&'static str>,
    },
    /// A server without the collection.
    #[error("{collection}: the server has no such collection; make it with `xr index push`")]
    NoCollection {
        /// The address of the collection.
        collection: String,
    },
    /// A collection that says nothing of its model and metric.
    #[error("{collection}: xr hasn't made this collection; name another, and xr will make it")]
    ForeignCollection {
        /// The address of the collection.
        collection: String,
    },
    /// A collection that can't hold these vectors.
    #[error(
        "{collection}: the {what} of this collection is {found}, expected {expected}; name another \
         collection, or drop this one"
    )]
    OtherCollection {
        /// The address of the collection.
        collection: String,
        /// What is another.
        what: &'static str,
        /// That of the vectors.
        expected: String,
        /// That of the collection.
        found: String,
    },
    /// Vectors where an index was to be built.
    #[error(
        "{collection}: {vectors} vectors are there already; open it, or name another collection or \
         partition"
    )]
    NotEmpty {
        /// The address of the collection.
        collection: String,
        /// How many.
        vectors: usize,
    },
    /// More hits for one query than a server gives.
    #[error("Milvus gives at most {most} hits for one query; ask for fewer, or raise the bound")]
    TooManyHits {
        /// How many it gives.
        most: usize,
    },
    /// A push after which something is missing, or there is too much.
    #[error(
        "{collection}: {found} {space} are there after the push, expected {expected}; has someone \
         else changed the collection meanwhile? Push again: what is there isn't sent twice"
    )]
    Incomplete {
        /// The address of the collection.
        collection: String,
        /// Of pictures or texts.
        space: crate::Space,
        /// Vectors of the catalogue.
        expected: usize,
        /// Vectors that the servers count.
        found: usize,
    },
    /// A push after which searches find something else.
    #[error(
        "{collection}: searches for {space} find only {recall:.3} of what they should; the \
         collection holds another catalogue, or its index is too coarse: name another collection"
    )]
    OtherVectors {
        /// The address of the collection.
        collection: String,
        /// Pictures or texts.
        space: crate::Space,
        /// The fraction of the best that was found.
        recall: f64,
    },
    /// A catalogue's own index on servers.
    #[error(
        "{}: a catalogue's own index is in its folder; `xr index push` brings a catalogue to Milvus \
         servers",
        without_token(.0).0
    )]
    Elsewhere(String),
    /// A folder without an index.
    #[error("{}: no index is here (it has no index.json); was it built elsewhere?", path.display())]
    NoIndex {
        /// The folder.
        path: PathBuf,
    },
    /// A file of an index that isn't what was written.
    #[error("{}: damaged ({why}); build the index again from its embeddings", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, and what expected.
        why: String,
    },
    /// A folder without a catalogue.
    #[error("{}: no catalogue is here; make one with `xr index build`", path.display())]
    NoCatalogue {
        /// The file that would hold it.
        path: PathBuf,
    },
    /// A catalogue where a new one was to be.
    #[error("{}: a catalogue is here already; open it, or choose another folder", path.display())]
    CatalogueExists {
        /// The file that holds it.
        path: PathBuf,
    },
    /// A catalogue that another process has open.
    #[error(
        "{}: another process has this catalogue open; wait until it has ended, or ask that process",
        path.display()
    )]
    Locked {
        /// The file that holds it.
        path: PathBuf,
    },
    /// What the store of a catalogue can't do.
    #[error("{}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What the store said.
        source: Box<redb::Error>,
    },
    /// A file or folder that isn't of clip-retrieval's layout.
    #[error("{}: {why}; give a folder that clip-retrieval's `clip inference` made", path.display())]
    ClipRetrieval {
        /// The file or folder.
        path: PathBuf,
        /// What was found, and what expected.
        why: String,
    },
    /// Folders of clip-retrieval, and no reader for them.
    #[error(
        "{}: this program was built without a reader of clip-retrieval's folders; build it with \
         `--features clip-retrieval`",
        path.display()
    )]
    WithoutClipRetrieval {
        /// The folder.
        path: PathBuf,
    },
    /// Text that is no [`Condition`](crate::Condition).
    #[error("`{0}` is no condition; write it as field=value")]
    NoCondition(String),
    /// A [`tune`](crate::tune::tune) of nothing.
    #[error("nothing to measure: tuning needs vectors, queries and at least one index to try")]
    NothingToTune,
    /// A system that has no thread left.
    #[error("no thread could be started: {0}")]
    Threads(String),
    /// A file or folder couldn't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Of embeddings on disk.
    #[error(transparent)]
    Data(#[from] xr_data::Error),
}

/// The two matrices of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is looked for.
    Queries,
    /// What is looked through.
    Gallery,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queries => "queries",
            Self::Gallery => "gallery",
        })
    }
}

/// The result of a search.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn store(path: &Path, source: impl Into<redb::Error>) -> Self {
        Self::Store { path: path.into(), source: Box::new(source.into()) }
    }

    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), why: why.into() }
    }
}

/// Names as a sentence has them.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let said = |error: Error| error.to_string();
        assert_eq!(
            said(Error::Dimensions { queries: 384, gallery: 512 }),
            "the queries have 384 dimensions and the gallery 512; embed both with the same model"
        );
        assert_eq!(
            said(Error::NotFinite { side: Side::Gallery, row: 3 }),
            "row 3 of the gallery is not finite: it holds NaN or infinity, or its squared length \
             passes the largest f32; leave it out, or look for a division by zero where it was \
             embedded"
        );
        let model = |digits: &str| Fingerprint::from(digits.repeat(8));
        assert_eq!(
            said(Error::OtherModel { expected: model("a1"), found: model("b2") }),
            "model b2b2b2b2b2b2 made these embeddings, and the query bank is of model \
             a1a1a1a1a1a1; embed both with the same model"
        );
        assert_eq!(
            said(Error::IdCount { ids: 2, vectors: 3 }),
            "2 ids came with 3 vectors; give each vector one"
        );
        assert_eq!(
            said(Error::DuplicateId { id: 7 }),
            "two vectors have the id 7; give each its own, or remove the old one first"
        );
        assert_eq!(
            said("brute".parse::<crate::IndexSpec>().unwrap_err()),
            "`brute` is no index; there are exact, exact-i8, what FAISS' index factory takes, \
             such as HNSW32 or IVF1024,SQ8, and collections on Milvus servers, such as \
             http://localhost:19530/shelf"
        );
        let foreign = |has| Error::NotAParameter { name: "nprobe", index: "exact".into(), has };
        assert_eq!(said(foreign(vec![])), "the index exact has no parameter nprobe; it has none");
        assert_eq!(
            said(Error::WithoutFaiss("HNSW32".into())),
            "HNSW32 is an index of FAISS, which this program was built without; build it with \
             `--features faiss`, or use exact or exact-i8"
        );
        assert_eq!(
            said(Error::WithoutMilvus("http://root:Milvus@h:1/c".into())),
            "http://h:1/c is a collection on Milvus servers, for which this program was built \
             without a client; build it with `--features milvus`"
        );
        assert_eq!(
            said(Error::WithoutClipRetrieval { path: "a".into() }),
            "a: this program was built without a reader of clip-retrieval's folders; build it with \
             `--features clip-retrieval`"
        );
        assert_eq!(
            said(Error::NoIndex { path: "a".into() }),
            "a: no index is here (it has no index.json); was it built elsewhere?"
        );
        assert_eq!(
            said(Error::damaged("a/b".as_ref(), "3 bytes")),
            "a/b: damaged (3 bytes); build the index again from its embeddings"
        );
    }
}
