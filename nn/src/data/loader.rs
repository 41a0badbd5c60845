//! Examples, shuffled and cut into batches.

use std::sync::Arc;

use engine::{Device, Error, Result, Rng, room};
use rand::seq::SliceRandom;

use super::prefetch::Prefetch;
use super::{Batch, Draw, Examples};

/// Cuts examples into batches, in a new order every epoch; [`Loader::in_order`] keeps their own.
/// The last batch is short if the size does not divide the number of examples.
///
/// # Example
/// ```
/// use alcyon_nn::data::{Dataset, Loader};
/// use engine::{DType, Rng, Tensor};
/// let inputs = Tensor::arange(5, DType::F32).reshape([5, 1])?;
/// let data = Dataset::new("toy", &inputs, &Tensor::zeros([5], DType::I64), 1)?;
/// let loader = Loader::new(&data, 2)?;
/// let mut seen = Vec::new();
/// for batch in loader.epoch(&mut Rng::new(0)) {
///     seen.extend(batch?.inputs.to_vec::<f32>()?);
/// }
/// assert_eq!(loader.batches(), 3);
/// seen.sort_by(f32::total_cmp);
/// assert_eq!(seen, [0.0, 1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Loader {
    examples: Arc<dyn Examples>,
    batch_size: usize,
    threads: usize,
    /// Where batches go; without one they stay where they are made.
    device: Option<Device>,
}

impl Loader {
    /// Batches of a given size.
    ///
    /// # Errors
    /// [`Error::Argument`] for batches of 0; [`Error::OutOfMemory`] for more examples than can be put in order.
    pub fn new(examples: &(impl Examples + Clone + 'static), batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::Argument {
                op: "loader",
                name: "batch_size",
                expected: "at least 1",
                got: "0".into(),
            });
        }
        // The order of an epoch.
        room::expect("loader", examples.len().saturating_mul(size_of::<usize>()))?;
        Ok(Self { examples: Arc::new(examples.clone()), batch_size, threads: 0, device: None })
    }

    /// The same batches, bit for bit, prepared by so many threads of their own while the caller
    /// works on others: each keeps at most two waiting. With 0 they are made when asked for.
    #[must_use]
    pub fn prefetch(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The same batches on a device, where the model is. Those that are prepared by threads are also
    /// moved by them.
    ///
    /// # Example
    /// ```
    /// use alcyon_nn::data::{Loader, iris};
    /// use engine::Device;
    /// let dry = Loader::new(&iris()?.0, 8)?.on(Device::Meta);
    /// assert_eq!(dry.in_order().next().unwrap()?.inputs.device(), Device::Meta);
    /// # Ok::<(), engine::Error>(())
    /// ```
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device: Some(device), ..self }
    }

    /// The number of batches of an epoch.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.examples.len().div_ceil(self.batch_size)
    }

    /// Every example once, in an order drawn from `rng` now.
    #[must_use]
    pub fn epoch(&self, rng: &mut Rng) -> Epoch {
        let draw = Draw::from_rng(rng);
        self.over(Some(rng), draw)
    }

    /// Every example once, in an order and with changes that depend on `(seed, epoch)` alone; with
    /// [`Epoch::after`], training resumes at any batch of any epoch.
    ///
    /// # Example
    /// ```
    /// # use alcyon_nn::data::{digits, Loader};
    /// let loader = Loader::new(&digits()?.0, 100)?;
    /// let tenth = loader.epoch_at(7, 3).nth(9).unwrap()?;
    /// let resumed = loader.epoch_at(7, 3).after(9).next().unwrap()?;
    /// assert_eq!(tenth.targets.to_vec::<i64>()?, resumed.targets.to_vec::<i64>()?);
    /// # Ok::<(), engine::Error>(())
    /// ```
    #[must_use]
    pub fn epoch_at(&self, seed: u64, epoch: u64) -> Epoch {
        let draw = Draw::of_epoch(seed, epoch);
        self.over(Some(&mut draw.whole()), draw)
    }

    /// Every example once, in its own order: for evaluation.
    #[must_use]
    pub fn in_order(&self) -> Epoch {
        self.over(None, Draw::of_epoch(0, 0))
    }

    fn over(&self, shuffle: Option<&mut Rng>, draw: Draw) -> Epoch {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        if let Some(rng) = shuffle {
            order.shuffle(rng);
        }
        let (examples, batch_size, device) = (self.examples.clone(), self.batch_size, self.device);
        let plan = Plan { examples, batch_size, order, draw, device };
        Epoch { plan: Arc::new(plan), at: 0, threads: self.threads, ahead: None }
    }
}

/// What the batches of an epoch are.
#[derive(Debug)]
pub(super) struct Plan {
    examples: Arc<dyn Examples>,
    batch_size: usize,
    order: Vec<usize>,
    draw: Draw,
    device: Option<Device>,
}

impl Plan {
    pub(super) fn batches(&self) -> usize {
        self.order.len().div_ceil(self.batch_size)
    }

    pub(super) fn batch(&self, number: usize) -> Result<Batch> {
        let start = number * self.batch_size;
        let end = start.saturating_add(self.batch_size).min(self.order.len());
        let batch = self.examples.batch(&self.order[start..end], self.draw)?;
        self.device.map_or(Ok(batch.clone()), |device| batch.to_device(device))
    }
}

/// The batches of one epoch. An error takes the place of its batch, and the others follow.
#[derive(Debug)]
pub struct Epoch {
    plan: Arc<Plan>,
    /// The next batch.
    at: usize,
    threads: usize,
    /// Started with the first batch.
    ahead: Option<Prefetch>,
}

impl Epoch {
    /// The same epoch without its next `batches`, which are not prepared either.
    #[must_use]
    pub fn after(self, batches: usize) -> Self {
        Self { at: self.at.saturating_add(batches).min(self.plan.batches()), ahead: None, ..self }
    }
}

impl Clone for Epoch {
    /// The same batches again, prepared anew.
    fn clone(&self) -> Self {
        Self { plan: self.plan.clone(), at: self.at, threads: self.threads, ahead: None }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.plan.batches() {
            self.ahead = None;
            return None;
        }
        let number = self.at;
        self.at += 1;
        if self.threads == 0 {
            return Some(self.plan.batch(number));
        }
        let (plan, threads) = (&self.plan, self.threads);
        let ahead = self.ahead.get_or_insert_with(|| Prefetch::new(plan, number, threads));
        // A worker that is gone has panicked, or could not be started.
        Some(ahead.next().unwrap_or_else(|| self.plan.batch(number)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.plan.batches() - self.at;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Epoch {}

#[cfg(test)]
mod tests {
    use engine::{DType, Tensor};

    use super::*;
    use crate::data::Dataset;

    fn counting(n: usize) -> Dataset {
        let inputs = Tensor::arange(n, DType::F32).reshape([n, 1]).unwrap();
        let labels = Tensor::from_fn([n], DType::I64, |i| (i % 3) as f64);
        Dataset::new("counting", &inputs, &labels, 3).unwrap()
    }

    fn inputs(epoch: Epoch) -> Vec<f32> {
        epoch.flat_map(|b| b.unwrap().inputs.to_vec::<f32>().unwrap()).collect()
    }

    #[test]
    fn inputs_and_labels_stay_together_and_the_last_batch_is_short() {
        let loader = Loader::new(&counting(10), 4).unwrap();
        let epoch = loader.epoch(&mut Rng::new(1));
        assert_eq!(epoch.len(), 3);
        let batches: Vec<Batch> = epoch.map(Result::unwrap).collect();
        let sizes: Vec<usize> = batches.iter().map(Batch::len).collect();
        assert_eq!(sizes, [4, 4, 2]);
        for batch in batches {
            let inputs = batch.inputs.to_vec::<f32>().unwrap();
            let labels = batch.targets.to_vec::<i64>().unwrap();
            assert!(inputs.iter().zip(labels).all(|(&x, label)| x as i64 % 3 == label));
        }
    }

    #[test]
    fn epochs_differ_and_the_same_seed_gives_the_same_epochs() {
        let loader = Loader::new(&counting(50), 7).unwrap();
        let two = |rng: &mut Rng| [(); 2].map(|()| inputs(loader.epoch(rng)));
        let [first, second] = two(&mut Rng::new(2));
        assert_ne!(first, second);
        assert_eq!(two(&mut Rng::new(2)), [first, second]);
    }

    #[test]
    fn in_order_keeps_the_order() {
        let loader = Loader::new(&counting(5), 2).unwrap();
        assert_eq!(inputs(loader.in_order()), [0.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn batches_of_none_are_refused_and_no_examples_give_no_batches() {
        let refused = Loader::new(&counting(5), 0);
        assert!(matches!(refused, Err(Error::Argument { name: "batch_size", .. })));
        let empty = Loader::new(&counting(0), 3).unwrap();
        assert_eq!((empty.batches(), empty.epoch(&mut Rng::new(0)).count()), (0, 0));
        let huge = Loader::new(&counting(5), usize::MAX).unwrap();
        assert_eq!(huge.epoch(&mut Rng::new(0)).count(), 1);
    }
}
