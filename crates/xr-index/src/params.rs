use std::{fmt, num::NonZeroUsize, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, IdFilter, Result, VectorIndex};

/// What one search may find, and how hard it looks.
///
/// The default finds everything and leaves the effort to the index.
///
/// ```
/// use xr_index::{IdFilter, SearchParams};
///
/// let filter: IdFilter = [1, 5].into_iter().collect();
/// let params = SearchParams { filter: Some(&filter), effort: "nprobe=16".parse()? };
/// # Ok::<(), xr_index::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchParams<'a> {
    /// The ids that may be found; all if absent.
    pub filter: Option<&'a IdFilter>,
    /// How hard to look.
    pub effort: Effort,
}

/// How hard an approximate index looks: more finds more and takes longer. What is absent is the
/// index's own choice; an index refuses a parameter that it doesn't have.
///
/// Written `nprobe=16,rerank=4`, or `default`.
///
/// ```
/// use xr_index::Effort;
///
/// let effort: Effort = "nprobe=16,rerank=4".parse()?;
/// assert_eq!(effort.nprobe.map(|n| n.get()), Some(16));
/// assert_eq!(effort.to_string(), "nprobe=16,rerank=4");
/// assert_eq!(
///     "probes=3".parse::<Effort>().unwrap_err().to_string(),
///     "`probes=3` is no search parameter; there are nprobe=N, ef_search=N and rerank=N, N from 1"
/// );
/// # Ok::<(), xr_index::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effort {
    /// Lists of an inverted file that are looked through (FAISS' `IVF`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nprobe: Option<NonZeroUsize>,
    /// Candidates that a walk over a graph keeps (FAISS' `HNSW`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ef_search: Option<NonZeroUsize>,
    /// Candidates scored again with their whole vectors, for each hit wanted (`exact-i8`, FAISS'
    /// `RFlat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<NonZeroUsize>,
}

impl Effort {
    /// Names and values, those absent too.
    fn fields(&mut self) -> [(&'static str, &mut Option<NonZeroUsize>); 3] {
        [
            ("nprobe", &mut self.nprobe),
            ("ef_search", &mut self.ef_search),
            ("rerank", &mut self.rerank),
        ]
    }

    /// Refuses parameters that the index doesn't have.
    ///
    /// # Errors
    /// [`Error::NotAParameter`] for the first.
    pub(crate) fn check(mut self, index: &dyn VectorIndex) -> Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        let has = index.parameters();
        let foreign =
            self.fields().into_iter().find(|(name, n)| n.is_some() && !has.contains(name));
        match foreign {
            Some((name, _)) => Err(Error::NotAParameter { name, index: index.name(), has }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut copy = *self;
        let given = copy.fields().into_iter().filter_map(|(name, n)| Some((name, (*n)?)));
        let given: Vec<_> = given.map(|(name, n)| format!("{name}={n}")).collect();
        f.write_str(if given.is_empty() { "default" } else { "" })?;
        f.write_str(&given.join(","))
    }
}

impl FromStr for Effort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut effort = Self::default();
        for part in text.split(',').filter(|&part| part != "default") {
            let unknown = || Error::UnknownParameter(part.into());
            let (name, value) = part.split_once('=').ok_or_else(unknown)?;
            let field = effort.fields().into_iter().find(|(known, _)| *known == name);
            *field.ok_or_else(unknown)?.1 = Some(value.parse().map_err(|_| unknown())?);
        }
        Ok(effort)
    }
}
