//! Parallel work on a stream of items with the results in order and a bound on what is in flight.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use crate::{Error, Result};

/// Worker threads for a machine: every core, up to a bound that keeps the memory of a conversion small.
pub(crate) fn default_threads() -> usize {
    thread::available_parallelism()
        .map_or(1, |n| n.get())
        .min(MAX_THREADS)
}

/// With 1 MiB units and two buffers for each, 24 threads stay below 150 MiB.
const MAX_THREADS: usize = 24;

/// Runs `items` through workers and hands the results to `sink` in the order of the items.
///
/// `make_worker` is called once per thread, so that a worker can own its compressor. At most `2 × threads + 2` items
/// exist between the iterator and the sink. The first error, in order, ends the run; the iterator runs on a thread of
/// its own and is not polled again after that.
pub(crate) fn ordered<I, T, W>(
    threads: usize,
    items: impl Iterator<Item = Result<I>> + Send,
    make_worker: impl Fn() -> W + Sync,
    mut sink: impl FnMut(T) -> Result<()>,
) -> Result<()>
where
    I: Send,
    T: Send,
    W: FnMut(I) -> Result<T>,
{
    let threads = threads.max(1);
    let window = threads * 2 + 2;
    // Tokens bound what is in flight: the producer takes one per item, the sink gives it back.
    let (give_token, take_token) = mpsc::sync_channel::<()>(window);
    for _ in 0..window {
        // The channel was made with room for them all.
        let _ = give_token.try_send(());
    }
    let (send_item, receive_item) = mpsc::channel::<(u64, Result<I>)>();
    let receive_item = Mutex::new(receive_item);
    let (send_result, receive_result) = mpsc::channel::<(u64, Result<T>)>();

    thread::scope(|scope| {
        scope.spawn(move || {
            let mut items = items;
            for number in 0u64.. {
                if take_token.recv().is_err() {
                    break;
                }
                let Some(item) = items.next() else { break };
                let failed = item.is_err();
                if send_item.send((number, item)).is_err() || failed {
                    break;
                }
            }
        });
        for _ in 0..threads {
            let (receive_item, make_worker) = (&receive_item, &make_worker);
            let send_result = send_result.clone();
            scope.spawn(move || {
                let mut worker = make_worker();
                loop {
                    let next = match receive_item.lock() {
                        Ok(receiver) => receiver.recv(),
                        Err(_) => break,
                    };
                    let Ok((number, item)) = next else { break };
                    if send_result
                        .send((number, item.and_then(&mut worker)))
                        .is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(send_result);

        let mut waiting = BTreeMap::new();
        let mut next = 0u64;
        let mut outcome = Ok(());
        'receive: for (number, result) in &receive_result {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&next) {
                next += 1;
                outcome = result.and_then(&mut sink);
                if outcome.is_err() {
                    break 'receive;
                }
                // Never full: one token came out for this item. A producer that is done has closed it.
                let _ = give_token.try_send(());
            }
        }
        // Unblocks the producer (no tokens) and the workers (no receiver) when an error ended the loop.
        drop(give_token);
        drop(receive_result);
        if outcome.is_ok() && !waiting.is_empty() {
            outcome = Err(Error::invalid("a worker thread ended early"));
        }
        outcome
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_keep_their_order_and_the_window_holds() {
        let alive = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let mut seen = Vec::new();
        ordered(
            4,
            (0..500u64).map(|i| {
                most.fetch_max(alive.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                Ok(i)
            }),
            || {
                |i: u64| {
                    if i.is_multiple_of(7) {
                        thread::sleep(std::time::Duration::from_micros(200));
                    }
                    Ok(i * 2)
                }
            },
            |r| {
                alive.fetch_sub(1, Ordering::SeqCst);
                seen.push(r);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, (0..500).map(|i| i * 2).collect::<Vec<_>>());
        assert!(
            most.load(Ordering::SeqCst) <= 4 * 2 + 3,
            "{most:?} items in flight"
        );
    }

    #[test]
    fn first_error_in_order_wins_from_any_stage() {
        let run = |bad_item: u64, bad_work: u64, bad_sink: u64| {
            ordered(
                3,
                (0..1000u64).map(move |i| {
                    if i == bad_item {
                        Err(Error::invalid("item"))
                    } else {
                        Ok(i)
                    }
                }),
                || {
                    move |i: u64| {
                        if i == bad_work {
                            Err(Error::invalid("work"))
                        } else {
                            Ok(i)
                        }
                    }
                },
                |i| {
                    if i == bad_sink {
                        Err(Error::invalid("sink"))
                    } else {
                        Ok(())
                    }
                },
            )
            .map_err(|e| e.to_string())
        };
        assert_eq!(run(10, 20, 30), Err("item".to_owned()));
        assert_eq!(run(20, 10, 30), Err("work".to_owned()));
        assert_eq!(run(20, 30, 10), Err("sink".to_owned()));
        assert_eq!(run(5000, 5000, 5000), Ok(()));
    }
}
