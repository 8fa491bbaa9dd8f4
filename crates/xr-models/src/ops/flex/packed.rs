//! Weights packed once for many batches.

use std::{
    any::Any,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use burn::backend::flex::FlexTensor;

use super::storage::same;

type Packed = (FlexTensor, Arc<dyn Any + Send + Sync>);

/// Weights in use, each with what was packed of it. That a weight is held here is what keeps anyone
/// from changing it: Flex copies what is shared before it writes.
static PACKED: Mutex<Vec<Packed>> = Mutex::new(vec![]);

/// The weight packed, by `pack` if it isn't yet. Weights that nobody else holds any more are let go
/// when another comes.
pub(super) fn packed<T: Any + Send + Sync>(
    weight: &FlexTensor,
    pack: impl FnOnce() -> T,
) -> Arc<T> {
    if let Some(found) = find(weight) {
        return found;
    }
    // Without the lock: packing runs on all threads, and one that waits may take up other work.
    let packed = Arc::new(pack());
    let mut all = lock();
    all.retain(|(weight, _)| !weight.is_unique());
    all.push((weight.clone(), packed.clone()));
    packed
}

fn find<T: Any + Send + Sync>(weight: &FlexTensor) -> Option<Arc<T>> {
    let all = lock();
    let mut found = all.iter().filter(|(other, _)| same(other, weight));
    found.find_map(|(_, packed)| packed.clone().downcast().ok())
}

fn lock() -> MutexGuard<'static, Vec<Packed>> {
    PACKED.lock().unwrap_or_else(PoisonError::into_inner)
}
