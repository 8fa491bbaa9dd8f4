use xr_data::Embeddings;

use crate::{Catalogue, Found, Item, Query, Result};

/// Items that are found by their embeddings: a [`Catalogue`], here or on servers.
pub trait FindItems {
    /// The `k` best items for each row of `queries`, best first: see [`Catalogue::search`].
    ///
    /// # Errors
    /// As [`Catalogue::search`].
    fn search(&self, queries: &Embeddings, query: &Query) -> Result<Vec<Vec<Found>>>;

    /// The items with these ids, in any order. One that isn't there is left out.
    ///
    /// # Errors
    /// Those of what keeps the items.
    fn items(&self, ids: &[u64]) -> Result<Vec<Item>>;
}

impl FindItems for Catalogue {
    fn search(&self, queries: &Embeddings, query: &Query) -> Result<Vec<Vec<Found>>> {
        self.search(queries, query)
    }

    fn items(&self, ids: &[u64]) -> Result<Vec<Item>> {
        ids.iter().filter_map(|&id| self.item(id).transpose()).collect()
    }
}
