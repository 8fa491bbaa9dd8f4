use std::{
    ops::Range,
    sync::mpsc::{IntoIter, sync_channel},
    thread,
};

/// Makes the batches of `steps` on a thread of its own while `consume` works through them, in
/// order. One batch waits ready while the next is being made, so three are in memory at most.
///
/// `make` may return a `Result`: errors reach `consume` like batches do. `consume` may stop early;
/// the thread then ends after the batch it is at.
///
/// ```
/// let sum = xr_data::prefetch(0..4, |step| step * 10, |batches| batches.sum::<usize>());
/// assert_eq!(sum, 60);
/// ```
///
/// # Panics
/// When `make` does.
pub fn prefetch<T: Send, R>(
    steps: Range<usize>,
    mut make: impl FnMut(usize) -> T + Send,
    consume: impl FnOnce(&mut IntoIter<T>) -> R,
) -> R {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        // Sending fails once nobody listens; moving the sender in ends the batches with the thread.
        scope.spawn(move || steps.map(&mut make).try_for_each(|batch| sender.send(batch)));
        // Owned here, the receiver is gone before the scope waits for the thread.
        consume(&mut receiver.into_iter())
    })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    #[test]
    fn in_order_and_all() {
        let batches: Vec<_> = prefetch(5..200, |step| step, |batches| batches.collect());
        assert_eq!(batches, (5..200).collect::<Vec<_>>());
    }

    #[test]
    fn errors_come_at_their_place() {
        let make = |step| if step == 2 { Err("third") } else { Ok(step) };
        let result = prefetch(0..9, make, |batches| batches.collect::<Result<Vec<_>, _>>());
        assert_eq!(result, Err("third"));
    }

    #[test]
    fn stopping_early_ends_the_thread() {
        let made = AtomicUsize::new(0);
        let make = |_| made.fetch_add(1, Ordering::Relaxed);
        let first = prefetch(0..1_000_000, make, |batches| batches.next());
        assert_eq!(first, Some(0));
        // One taken, one in the channel, one in the hand; the thread may stand anywhere there.
        assert!(made.load(Ordering::Relaxed) <= 3);
    }

    #[test]
    fn never_more_than_two_ahead() {
        let made = AtomicUsize::new(0);
        let make = |_| made.fetch_add(1, Ordering::SeqCst);
        prefetch(0..20, make, |batches| {
            for taken in batches {
                thread::sleep(Duration::from_millis(1));
                assert!(made.load(Ordering::SeqCst) <= taken + 3);
            }
        });
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_while_making_is_not_an_early_end() {
        prefetch(0..3, |step| assert!(step < 1), |batches| batches.count());
    }
}
