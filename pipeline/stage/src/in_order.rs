//! Work on all cores, results in order, with a bounded number of them in memory.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;

/// Results that are made ahead of the one that is being taken, for each thread.
const AHEAD: usize = 2;
/// Results that are made beyond that, so that the threads go on when one result takes long to be taken, as when it fills a page
/// of a table.
const SPARE: usize = 12;

/// Does `work` on the items on rayon's threads and hands the results to `take` on this one, in the order of the items.
///
/// At most two results a thread and a dozen more wait to be taken, so memory stays bounded however slow `take` is. After a
/// failure no new item is begun; the failure that is told is the first in the order of the items.
pub fn in_order<I: Sync, O: Send, E: Send>(
    items: &[I],
    work: impl Fn(&I) -> Result<O, E> + Sync,
    mut take: impl FnMut(O) -> Result<(), E>,
) -> Result<(), E> {
    // On a thread of the pool waiting for others could last for ever.
    if rayon::current_thread_index().is_some() {
        return items.iter().try_for_each(|item| take(work(item)?));
    }
    let window = window();
    let (sender, receiver) = mpsc::channel();
    let work = &work;
    rayon::in_place_scope(|scope| {
        let mut ahead = items.iter().enumerate();
        let mut waiting = BTreeMap::new();
        let mut begin = |count: usize| {
            for (position, item) in ahead.by_ref().take(count) {
                let sender = sender.clone();
                // A panic is handed over like a result: whoever waits for it would wait for ever otherwise.
                scope.spawn(move |_| {
                    let done = catch_unwind(AssertUnwindSafe(|| work(item)));
                    // The receiver is gone only after a failure, which is told.
                    let _ = sender.send((position, done));
                });
            }
        };
        begin(window);
        for position in 0..items.len() {
            let done = loop {
                if let Some(done) = waiting.remove(&position) {
                    break done;
                }
                let (at, done) = receiver.recv().expect("the sender outlives this loop");
                waiting.insert(at, done);
            };
            take(done.unwrap_or_else(|panic| resume_unwind(panic))?)?;
            begin(1);
        }
        Ok(())
    })
}

/// How many results are under way or wait.
fn window() -> usize {
    AHEAD * rayon::current_num_threads() + SPARE
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..500).collect();
        let mut taken = Vec::new();
        // The first items of each ten take longest.
        let work = |item: &u64| Ok::<_, ()>((0..(10 - item % 10) * 2000).fold(*item, |sum, it| sum ^ it ^ it));
        in_order(&items, work, |it| {
            taken.push(it);
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, items);
    }

    #[test]
    fn no_more_results_wait_than_the_window_holds() {
        let begun = AtomicUsize::new(0);
        let mut taken = 0;
        let window = window();
        in_order(
            &[(); 200],
            |()| Ok::<_, ()>(begun.fetch_add(1, Ordering::SeqCst)),
            |_| {
                assert!(begun.load(Ordering::SeqCst) <= taken + window);
                taken += 1;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(taken, 200);
    }

    #[test]
    fn the_first_failure_in_order_is_told() {
        let items: Vec<u32> = (0..100).collect();
        let work = |item: &u32| if item % 30 == 29 { Err(*item) } else { Ok(*item) };
        assert_eq!(in_order(&items, work, |_| Ok(())), Err(29));
        assert_eq!(in_order(&items, work, |it| if it == 7 { Err(it) } else { Ok(()) }), Err(7));
    }

    #[test]
    fn a_panic_goes_through() {
        let work = |item: &u32| if *item == 5 { panic!("five") } else { Ok::<_, ()>(()) };
        let items: Vec<u32> = (0..50).collect();
        assert!(catch_unwind(AssertUnwindSafe(|| in_order(&items, work, |()| Ok(())))).is_err());
    }

    #[test]
    fn it_works_on_a_thread_of_the_pool_too() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let mut sum = 0;
        let items: Vec<u32> = (0..50).collect();
        pool.install(|| {
            in_order(
                &items,
                |it| Ok::<_, ()>(*it),
                |it| {
                    sum += it;
                    Ok(())
                },
            )
        })
        .unwrap();
        assert_eq!(sum, 49 * 50 / 2);
    }
}
