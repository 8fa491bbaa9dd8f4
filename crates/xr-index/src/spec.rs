use std::{fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};
use xr_data::Embeddings;

use crate::{Error, ExactI8Index, ExactIndex, Metric, Result, VectorIndex, folder::Folder};

/// Which index: `exact`, `exact-i8`, what FAISS' index factory takes, such as `HNSW32`,
/// `IVF1024,SQ8` or `OPQ64,IVF4096,PQ64x4fs,RFlat`, or the address of a collection on Milvus
/// servers, such as `http://localhost:19530/shelf`.
///
/// ```
/// use xr_index::IndexSpec;
///
/// assert_eq!("exact-i8".parse::<IndexSpec>()?, IndexSpec::ExactI8);
/// assert_eq!("HNSW32".parse::<IndexSpec>()?, IndexSpec::Faiss("HNSW32".into()));
/// # Ok::<(), xr_index::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum IndexSpec {
    /// [`ExactIndex`].
    Exact,
    /// [`ExactI8Index`].
    ExactI8,
    /// A factory string of FAISS; needs the feature `faiss`.
    Faiss(String),
    /// The address of a collection on Milvus servers, as `MilvusIndex` has it; needs the feature
    /// `milvus`.
    Milvus(String),
}

impl IndexSpec {
    /// Builds the index over all rows, `[rows, dim]`. A hit's id is that of its row in `ids`, or
    /// the row's number. What has to be learned, such as the cells of an inverted file, is learned
    /// from the rows.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for the first row that holds NaN or infinity; [`Error::IdCount`] and
    /// [`Error::DuplicateId`]; for FAISS [`Error::WithoutFaiss`] and what FAISS says; for
    /// Milvus [`Error::WithoutMilvus`] and those of `MilvusIndex::build`.
    pub fn build(
        &self,
        embeddings: Embeddings,
        ids: Option<Vec<u64>>,
        metric: Metric,
    ) -> Result<Box<dyn VectorIndex>> {
        Ok(match self {
            Self::Exact => Box::new(ExactIndex::with_ids(embeddings, ids, metric)?),
            Self::ExactI8 => Box::new(ExactI8Index::with_ids(embeddings, ids, metric)?),
            #[cfg(feature = "faiss")]
            Self::Faiss(factory) => {
                Box::new(crate::FaissIndex::build(factory, embeddings, ids, metric)?)
            }
            #[cfg(not(feature = "faiss"))]
            Self::Faiss(factory) => return Err(Error::WithoutFaiss(factory.clone())),
            #[cfg(feature = "milvus")]
            Self::Milvus(uri) => {
                Box::new(crate::MilvusIndex::build(uri, &embeddings, ids, metric)?)
            }
            #[cfg(not(feature = "milvus"))]
            Self::Milvus(uri) => return Err(Error::WithoutMilvus(uri.clone())),
        })
    }
}

/// Opens the folder that [`VectorIndex::save`] wrote. Vectors are mapped, not read.
///
/// # Errors
/// [`Error::NoIndex`] if there is none, [`Error::Damaged`] for a file that isn't what was written.
pub fn open(dir: &Path) -> Result<Box<dyn VectorIndex>> {
    let folder = Folder::open(dir)?;
    Ok(match &folder.header().index {
        IndexSpec::Exact => Box::new(ExactIndex::from_folder(&folder)?),
        IndexSpec::ExactI8 => Box::new(ExactI8Index::from_folder(&folder)?),
        #[cfg(feature = "faiss")]
        IndexSpec::Faiss(_) => Box::new(crate::FaissIndex::from_folder(&folder)?),
        #[cfg(not(feature = "faiss"))]
        IndexSpec::Faiss(factory) => return Err(Error::WithoutFaiss(factory.clone())),
        #[cfg(feature = "milvus")]
        IndexSpec::Milvus(_) => Box::new(crate::MilvusIndex::from_folder(&folder)?),
        #[cfg(not(feature = "milvus"))]
        IndexSpec::Milvus(uri) => return Err(Error::WithoutMilvus(uri.clone())),
    })
}

/// An address without who is asking, and who that is.
pub(crate) fn without_token(uri: &str) -> (String, Option<&str>) {
    let split = || {
        let (scheme, rest) = uri.split_once("://")?;
        let host = rest.split(['/', '?']).next()?;
        let (token, host) = host.rsplit_once('@')?;
        let behind = &rest[token.len() + 1 + host.len()..];
        Some((format!("{scheme}://{host}{behind}"), token))
    };
    split().map_or_else(|| (uri.into(), None), |(uri, token)| (uri, Some(token)))
}

/// Without the token of an address.
impl fmt::Display for IndexSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::ExactI8 => f.write_str("exact-i8"),
            Self::Faiss(factory) => f.write_str(factory),
            Self::Milvus(uri) => f.write_str(&without_token(uri).0),
        }
    }
}

impl FromStr for IndexSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "exact" => Ok(Self::Exact),
            "exact-i8" => Ok(Self::ExactI8),
            // All of FAISS' factory strings begin like this, and no name of ours does.
            _ if text.starts_with(|c: char| c.is_ascii_uppercase()) => Ok(Self::Faiss(text.into())),
            _ if text.starts_with("http://") || text.starts_with("https://") => {
                Ok(Self::Milvus(text.into()))
            }
            _ => Err(Error::UnknownIndex(text.into())),
        }
    }
}

impl TryFrom<String> for IndexSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<IndexSpec> for String {
    fn from(spec: IndexSpec) -> Self {
        spec.to_string()
    }
}
