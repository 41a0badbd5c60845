//! Batches prepared while others are worked on.
//!
//! Of n workers, worker w prepares the batches w, w + n, w + 2n, … and sends them through a queue
//! of its own; the reader takes from the queues in turn. So batches come in order without being
//! sorted, and a slow reader stops the workers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use engine::Result;

use super::Batch;
use super::loader::Plan;

/// Batches that wait in each queue.
const WAITING: usize = 2;

/// The queues of an epoch's workers. Dropping it stops and joins them.
#[derive(Debug)]
pub(super) struct Prefetch {
    queues: Vec<Receiver<Result<Batch>>>,
    workers: Vec<JoinHandle<()>>,
    /// The queue of the next batch.
    turn: usize,
}

impl Prefetch {
    /// Workers on the batches from `first` on.
    pub(super) fn new(plan: &Arc<Plan>, first: usize, threads: usize) -> Self {
        let threads = threads.min(plan.batches() - first);
        let (mut queues, mut workers) = (Vec::new(), Vec::new());
        for worker in 0..threads {
            let plan = plan.clone();
            let (send, receive) = sync_channel(WAITING);
            let work = move || {
                for number in (first + worker..plan.batches()).step_by(threads) {
                    if send.send(plan.batch(number)).is_err() {
                        return; // The reader has gone.
                    }
                }
            };
            queues.push(receive);
            // Where the system gives no thread, the queue is closed and the reader helps itself.
            workers.extend(Builder::new().name(format!("loader {worker}")).spawn(work).ok());
        }
        Self { queues, workers, turn: 0 }
    }

    /// The next batch; none if its worker is gone.
    pub(super) fn next(&mut self) -> Option<Result<Batch>> {
        let turn = self.turn;
        self.turn = (turn + 1) % self.queues.len().max(1);
        self.queues.get(turn)?.recv().ok()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.queues.clear();
        for worker in self.workers.drain(..) {
            // What a worker panicked with is seen again when the reader prepares its batch.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use engine::{Error, Tensor};

    use crate::data::augment::{Cutout, HorizontalFlip, PadCrop};
    use crate::data::{Batch, Draw, Examples, Images, Loader};

    use super::*;

    fn pictures() -> crate::data::augment::Augmented {
        let bytes = (0..37 * 48).map(|i| (i * 7 % 251) as u8).collect();
        let labels = (0..37).map(|i| i % 3).collect();
        let images = Images::new("t", [3, 4, 4], bytes, labels, &["a", "b", "c"]).unwrap();
        let changed = images.augmented().then(PadCrop { padding: 1 }).then(HorizontalFlip);
        changed.then(Cutout { side: 2 }).mixup(0.4).unwrap()
    }

    fn bits(batches: impl Iterator<Item = Result<Batch>>) -> Vec<(Vec<u32>, Vec<u32>)> {
        let bits = |t: Tensor| t.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
        batches.map(|b| b.map(|b| (bits(b.inputs), bits(b.targets))).unwrap()).collect()
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits_and_a_resumed_epoch_the_rest_of_them() {
        let loader = Loader::new(&pictures(), 5).unwrap();
        let whole = bits(loader.epoch_at(3, 1));
        assert_eq!(whole.len(), 8);
        assert_ne!(whole, bits(loader.epoch_at(3, 2)));
        assert_ne!(whole, bits(loader.epoch_at(4, 1)));
        for threads in [0, 1, 2, 4, 50] {
            let loader = loader.clone().prefetch(threads);
            assert_eq!(bits(loader.epoch_at(3, 1)), whole, "{threads}");
            for batch in [1, 3, 8, 9] {
                let rest = bits(loader.epoch_at(3, 1).after(batch));
                assert_eq!(rest, whole[batch.min(8)..], "{threads} from {batch}");
            }
        }
    }

    #[test]
    fn what_an_example_becomes_does_not_depend_on_its_batch() {
        let pictures = pictures();
        let draw = Draw::of_epoch(1, 2);
        let together = pictures.batch(&[4, 7, 9], draw).unwrap();
        let alone = pictures.batch(&[7], draw).unwrap();
        let second = together.inputs.narrow(0, 1, 1).unwrap();
        assert_eq!(second.to_vec::<f32>().unwrap(), alone.inputs.to_vec::<f32>().unwrap());
    }

    /// Fails for example 3, and counts what it is asked for.
    #[derive(Debug, Clone, Default)]
    struct Failing(Arc<AtomicUsize>);

    impl Examples for Failing {
        fn len(&self) -> usize {
            100
        }

        fn batch(&self, places: &[usize], _: Draw) -> Result<Batch> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let index = places[0] as i64;
            if index == 3 {
                return Err(Error::Index { op: "failing", index, at: 0, bound: 3 });
            }
            let inputs = Tensor::from_slice(&[index], [1])?;
            Ok(Batch { targets: inputs.clone(), inputs })
        }
    }

    #[test]
    fn an_error_comes_in_the_place_of_its_batch() {
        for threads in [0, 1, 3] {
            let loader = Loader::new(&Failing::default(), 1).unwrap().prefetch(threads);
            for (at, batch) in loader.in_order().enumerate() {
                match batch {
                    Ok(batch) => assert_eq!(batch.inputs.to_vec::<i64>().unwrap(), [at as i64]),
                    Err(error) => {
                        assert_eq!((at, error.to_string().contains("failing")), (3, true))
                    }
                }
            }
        }
    }

    #[test]
    fn a_reader_that_stops_bounds_the_work_and_ends_the_threads() {
        let examples = Failing::default();
        let mut epoch = Loader::new(&examples, 1).unwrap().prefetch(2).in_order();
        epoch.next().unwrap().unwrap();
        drop(epoch);
        // Joined: the examples have one owner left besides none in the workers.
        assert_eq!(Arc::strong_count(&examples.0), 1);
        // One taken, two waiting and one in hand for each of two workers.
        assert!(examples.0.load(Ordering::SeqCst) <= 7);
    }

    #[derive(Debug, Clone)]
    struct Panicking;

    impl Examples for Panicking {
        fn len(&self) -> usize {
            4
        }

        fn batch(&self, places: &[usize], draw: Draw) -> Result<Batch> {
            assert!(places[0] != 2, "example 2");
            Failing::default().batch(places, draw)
        }
    }

    #[test]
    fn a_panic_in_a_worker_is_the_readers_too() {
        let read = || {
            let epoch = Loader::new(&Panicking, 1).unwrap().prefetch(2).in_order();
            epoch.map(|batch| batch.unwrap().len()).sum::<usize>()
        };
        assert!(std::panic::catch_unwind(read).is_err());
    }
}
