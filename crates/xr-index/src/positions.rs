use std::{collections::HashMap, sync::OnceLock};

use crate::{IdFilter, Result, ids::check_new};

/// Ids of vectors that never move: a removed one keeps its position and is passed over.
#[derive(Debug)]
pub(crate) struct Positions {
    /// The id of each position; none while ids are positions.
    ids: Option<Vec<u64>>,
    /// A bit for each position: is the vector there?
    there: Vec<u8>,
    count: usize,
    removed: usize,
    /// Positions by id, of the vectors that are there, as soon as someone asks.
    by_id: OnceLock<HashMap<u64, usize>>,
}

impl Positions {
    /// Given ids, or the positions themselves.
    ///
    /// # Errors
    /// [`Error::IdCount`](crate::Error::IdCount), [`Error::DuplicateId`](crate::Error::DuplicateId).
    pub fn new(ids: Option<Vec<u64>>, count: usize) -> Result<Self> {
        if let Some(ids) = &ids {
            check_new(ids, count, |_| false)?;
        }
        Ok(Self::with_all_there(ids, count))
    }

    fn with_all_there(ids: Option<Vec<u64>>, count: usize) -> Self {
        let mut positions =
            Self { ids, there: vec![], count: 0, removed: 0, by_id: OnceLock::new() };
        (0..count).for_each(|_| positions.push_there());
        positions
    }

    /// Vectors that are there.
    pub fn len(&self) -> usize {
        self.count - self.removed
    }

    /// Vectors that are passed over.
    pub fn removed(&self) -> usize {
        self.removed
    }

    pub fn id(&self, position: usize) -> u64 {
        self.ids.as_ref().map_or(position as u64, |ids| ids[position])
    }

    /// Ids of all positions; none if they are the positions.
    pub fn given(&self) -> Option<&[u64]> {
        self.ids.as_deref()
    }

    pub fn removed_positions(&self) -> Vec<u64> {
        (0..self.count).filter(|&at| !self.is_there(at)).map(|at| at as u64).collect()
    }

    /// A bit for each position that may be found.
    pub fn bitmap(&self, filter: Option<&IdFilter>) -> Vec<u8> {
        let mut bits = self.there.clone();
        let Some(filter) = filter else { return bits };
        for position in (0..self.count).filter(|&at| !filter.contains(self.id(at))) {
            bits[position / 8] &= !(1 << (position % 8));
        }
        bits
    }

    /// Refuses ids of new vectors unless there is one for each and none is taken.
    ///
    /// # Errors
    /// [`Error::IdCount`](crate::Error::IdCount), [`Error::DuplicateId`](crate::Error::DuplicateId).
    pub fn check_new(&self, ids: &[u64], vectors: usize) -> Result<()> {
        check_new(ids, vectors, |id| self.by_id().contains_key(&id))
    }

    /// Ids of vectors added at the end, which [`check_new`](Self::check_new) has let through.
    pub fn append(&mut self, new: &[u64]) {
        self.by_id();
        let count = self.count as u64;
        let ids = self.ids.get_or_insert_with(|| (0..count).collect());
        ids.extend_from_slice(new);
        let by_id = self.by_id.get_mut().expect("just made");
        by_id.extend(new.iter().copied().zip(self.count..));
        new.iter().for_each(|_| self.push_there());
    }

    /// Removes a vector; was it there?
    pub fn remove(&mut self, id: u64) -> bool {
        let position = self.by_id().get(&id).copied();
        position.inspect(|&position| self.remove_at(position)).is_some()
    }

    /// Removes the vector at a position.
    pub fn remove_at(&mut self, position: usize) {
        if position < self.count && self.is_there(position) {
            self.there[position / 8] &= !(1 << (position % 8));
            self.removed += 1;
            let id = self.id(position);
            if let Some(by_id) = self.by_id.get_mut() {
                by_id.remove(&id);
            }
        }
    }

    fn is_there(&self, position: usize) -> bool {
        self.there[position / 8] >> (position % 8) & 1 == 1
    }

    fn push_there(&mut self) {
        if self.count.is_multiple_of(8) {
            self.there.push(0);
        }
        self.there[self.count / 8] |= 1 << (self.count % 8);
        self.count += 1;
    }

    fn by_id(&self) -> &HashMap<u64, usize> {
        self.by_id.get_or_init(|| {
            let there = (0..self.count).filter(|&at| self.is_there(at));
            there.map(|at| (self.id(at), at)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stay() {
        let mut positions = Positions::new(None, 10).unwrap();
        assert!(positions.remove(9) && positions.remove(3) && !positions.remove(3));
        positions.append(&[3, 70]);
        assert_eq!((positions.len(), positions.removed()), (10, 2));
        assert_eq!([10, 11].map(|at| positions.id(at)), [3, 70]);
        assert_eq!(positions.removed_positions(), [3, 9]);
        let filter = [0, 3, 70].into_iter().collect();
        assert_eq!(positions.bitmap(Some(&filter)), [1, 0b1100]);
        assert!(positions.check_new(&[9], 1).is_ok() && positions.check_new(&[70], 1).is_err());
    }
}
