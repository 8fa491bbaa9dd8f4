use std::fmt;

/// Bits spent on an id of the list before a sorted list is smaller than a bitmap.
const BITS_PER_ID: u64 = 64;

/// The ids that a search may find; all others are passed over.
///
/// Held as a bitmap where the ids are dense, as a sorted list where they are not.
///
/// ```
/// use xr_index::IdFilter;
///
/// let even: IdFilter = (0..100).step_by(2).collect();
/// assert!(even.contains(42) && !even.contains(43));
/// assert_eq!(even.len(), 50);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct IdFilter {
    len: usize,
    ids: Allowed,
}

#[derive(Clone, PartialEq, Eq)]
enum Allowed {
    Bitmap(Vec<u64>),
    Sorted(Vec<u64>),
}

impl IdFilter {
    /// May this id be found?
    pub fn contains(&self, id: u64) -> bool {
        match &self.ids {
            Allowed::Bitmap(words) => {
                let word = usize::try_from(id / 64).ok().and_then(|word| words.get(word));
                word.is_some_and(|word| word >> (id % 64) & 1 == 1)
            }
            Allowed::Sorted(ids) => ids.binary_search(&id).is_ok(),
        }
    }

    /// Number of ids that may be found.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The ids, ascending.
    #[cfg(feature = "milvus")]
    pub(crate) fn ids(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match &self.ids {
            Allowed::Bitmap(words) => {
                Box::new((0..64 * words.len() as u64).filter(|&id| self.contains(id)))
            }
            Allowed::Sorted(ids) => Box::new(ids.iter().copied()),
        }
    }

    /// May nothing be found?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl FromIterator<u64> for IdFilter {
    fn from_iter<T: IntoIterator<Item = u64>>(ids: T) -> Self {
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let len = ids.len();
        let dense = ids.last().is_some_and(|&last| last / BITS_PER_ID < len as u64);
        let ids = if dense { Allowed::Bitmap(bitmap(&ids)) } else { Allowed::Sorted(ids) };
        Self { len, ids }
    }
}

fn bitmap(sorted: &[u64]) -> Vec<u64> {
    let words = sorted.last().map_or(0, |&last| last as usize / 64 + 1);
    let mut bits = vec![0; words];
    for &id in sorted {
        bits[id as usize / 64] |= 1 << (id % 64);
    }
    bits
}

impl fmt::Debug for IdFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdFilter of {} ids", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_and_sparse() {
        for ids in [vec![3, 64, 65, 3], vec![5, u64::MAX, 1 << 40], vec![]] {
            let filter: IdFilter = ids.iter().copied().collect();
            for id in ids.iter().flat_map(|&id| [id.saturating_sub(1), id, id.saturating_add(1)]) {
                assert_eq!(filter.contains(id), ids.contains(&id), "{id} in {ids:?}");
            }
        }
    }
}
