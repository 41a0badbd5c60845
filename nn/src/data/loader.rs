//! A data set, shuffled and cut into batches.

use engine::{Error, Result, Rng, Tensor};
use rand::seq::SliceRandom;

use super::Dataset;

/// Cuts a data set into batches, in a new order every epoch; [`Loader::in_order`] keeps the data
/// set's own. The last batch is short if the size
/// does not divide the number of examples.
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
    dataset: Dataset,
    batch_size: usize,
}

/// Some examples.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, ..]`
    pub inputs: Tensor,
    /// `[B]`, i64
    pub targets: Tensor,
}

impl Batch {
    /// B, the number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.numel()
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Loader {
    /// Batches of a given size.
    ///
    /// # Errors
    /// [`Error::Argument`] for batches of 0.
    pub fn new(dataset: &Dataset, batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::Argument {
                op: "loader",
                name: "batch_size",
                expected: "at least 1",
                got: "0".into(),
            });
        }
        Ok(Self { dataset: dataset.clone(), batch_size })
    }

    /// The number of batches of an epoch.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.dataset.len().div_ceil(self.batch_size)
    }

    /// Every example once, in an order drawn from `rng` now.
    #[must_use]
    pub fn epoch(&self, rng: &mut Rng) -> Epoch {
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        order.shuffle(rng);
        self.over(order)
    }

    /// Every example once, in the data set's own order: for evaluation.
    #[must_use]
    pub fn in_order(&self) -> Epoch {
        self.over((0..self.dataset.len()).collect())
    }

    fn over(&self, order: Vec<usize>) -> Epoch {
        Epoch { dataset: self.dataset.clone(), batch_size: self.batch_size, order, at: 0 }
    }
}

/// The batches of one epoch.
#[derive(Debug, Clone)]
pub struct Epoch {
    dataset: Dataset,
    batch_size: usize,
    order: Vec<usize>,
    /// The examples handed out.
    at: usize,
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.at.saturating_add(self.batch_size).min(self.order.len());
        let places = self.order.get(self.at..end).filter(|places| !places.is_empty())?;
        let batch = self.dataset.select(places);
        self.at = end;
        Some(batch.map(|part| Batch { inputs: part.inputs, targets: part.labels }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.at).div_ceil(self.batch_size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Epoch {}

#[cfg(test)]
mod tests {
    use engine::DType;

    use super::*;

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
