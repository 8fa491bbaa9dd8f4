use std::{collections::HashMap, sync::OnceLock};

use crate::{Error, Result};

/// The caller's id of each row, and back.
#[derive(Debug)]
pub(crate) enum Ids {
    /// The id of a row is its number.
    Rows(usize),
    /// Ids that were given.
    Given(GivenIds),
}

/// Ids by row, and rows by id as soon as someone asks.
#[derive(Debug, Default)]
pub(crate) struct GivenIds {
    ids: Vec<u64>,
    rows: OnceLock<HashMap<u64, u32>>,
}

impl Ids {
    /// Given ids, or the rows' numbers.
    ///
    /// # Errors
    /// [`Error::IdCount`], [`Error::DuplicateId`].
    pub fn new(ids: Option<Vec<u64>>, rows: usize) -> Result<Self> {
        let Some(ids) = ids else { return Ok(Self::Rows(rows)) };
        check_new(&ids, rows, |_| false)?;
        Ok(Self::Given(GivenIds { ids, rows: OnceLock::new() }))
    }

    /// The id of a row.
    pub fn of(&self, row: usize) -> u64 {
        match self {
            Self::Rows(_) => row as u64,
            Self::Given(given) => given.ids[row],
        }
    }

    /// The row of an id.
    pub fn row(&self, id: u64) -> Option<usize> {
        match self {
            Self::Rows(rows) => usize::try_from(id).ok().filter(|row| row < rows),
            Self::Given(given) => given.rows().get(&id).map(|&row| row as usize),
        }
    }

    /// Those given, in the order of the rows; none where ids are row numbers.
    pub fn given(&self) -> Option<&[u64]> {
        match self {
            Self::Rows(_) => None,
            Self::Given(given) => Some(&given.ids),
        }
    }

    /// Refuses ids of new rows unless there is one for each row and all are new.
    ///
    /// # Errors
    /// [`Error::IdCount`], [`Error::DuplicateId`].
    pub fn check_new(&self, ids: &[u64], rows: usize) -> Result<()> {
        check_new(ids, rows, |id| self.row(id).is_some())
    }

    /// Ids of rows added at the end, which [`check_new`](Self::check_new) has let through.
    pub fn append(&mut self, ids: &[u64]) {
        let given = self.make_given();
        let first = given.ids.len();
        given.rows();
        let rows = given.rows.get_mut().expect("just made");
        rows.extend(ids.iter().enumerate().map(|(i, &id)| (id, (first + i) as u32)));
        given.ids.extend_from_slice(ids);
    }

    /// Forgets a row and gives its number to the last one.
    pub fn swap_remove(&mut self, row: usize) {
        let given = self.make_given();
        given.rows();
        let rows = given.rows.get_mut().expect("just made");
        rows.remove(&given.ids.swap_remove(row));
        if let Some(&moved) = given.ids.get(row) {
            rows.insert(moved, row as u32);
        }
    }

    fn make_given(&mut self) -> &mut GivenIds {
        if let Self::Rows(rows) = *self {
            let ids = (0..rows as u64).collect();
            *self = Self::Given(GivenIds { ids, rows: OnceLock::new() });
        }
        match self {
            Self::Given(given) => given,
            Self::Rows(_) => unreachable!("just replaced"),
        }
    }
}

impl GivenIds {
    fn rows(&self) -> &HashMap<u64, u32> {
        self.rows.get_or_init(|| self.ids.iter().copied().zip(0..).collect())
    }
}

/// Refuses ids unless there is one for each row, none twice, and none is there.
///
/// # Errors
/// [`Error::IdCount`], [`Error::DuplicateId`].
pub(crate) fn check_new(ids: &[u64], rows: usize, is_there: impl Fn(u64) -> bool) -> Result<()> {
    if ids.len() != rows {
        return Err(Error::IdCount { ids: ids.len(), vectors: rows });
    }
    let taken = ids.iter().copied().find(|&id| is_there(id));
    match taken.or_else(|| twice(ids)) {
        Some(id) => Err(Error::DuplicateId { id }),
        None => Ok(()),
    }
}

/// The smallest id that is there twice.
fn twice(ids: &[u64]) -> Option<u64> {
    // As those of most indexes are.
    if ids.is_sorted_by(|a, b| a < b) {
        return None;
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_there_twice() {
        let twice = [&[][..], &[3, 7, 9], &[9, 3, 7], &[3, 3], &[9, 3, 7, 9]].map(twice);
        assert_eq!(twice, [None, None, None, Some(3), Some(9)]);
    }

    #[test]
    fn rows_and_ids_stay_in_step() {
        let mut ids = Ids::new(None, 3).unwrap();
        ids.append(&[7, 9]);
        ids.swap_remove(1);
        ids.swap_remove(3);
        let there: Vec<_> = (0..3).map(|row| ids.of(row)).collect();
        assert_eq!(there, [0, 9, 2]);
        let rows = [0, 1, 2, 7, 9].map(|id| ids.row(id));
        assert_eq!(rows, [Some(0), None, Some(2), None, Some(1)]);
    }
}
