//! Inputs with labels.

use engine::{DType, Error, Result, Tensor, room};

/// N examples and their classes. Cloning shares the memory.
///
/// # Example
/// ```
/// use alcyon_nn::data::Dataset;
/// use engine::{DType, Tensor};
/// let inputs = Tensor::arange(8, DType::F32).reshape([4, 2])?;
/// let labels = Tensor::from_slice(&[0_i64, 1, 1, 0], [4])?;
/// let (train, test) = Dataset::new("toy", &inputs, &labels, 2)?.split(3)?;
/// assert_eq!((train.len(), test.len()), (3, 1));
/// assert_eq!(test.inputs.to_vec::<f32>()?, [6.0, 7.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What it is called in tables.
    pub name: String,
    /// `[N, ..]`
    pub inputs: Tensor,
    /// `[N]`, i64, each in 0..classes
    pub labels: Tensor,
    /// The number of classes.
    pub classes: usize,
}

impl Dataset {
    /// A data set over given tensors, whose memory it shares.
    ///
    /// # Errors
    /// [`Error::Shape`] when the labels are not one for each input, [`Error::DType`] when they are
    /// not i64, [`Error::Index`] when one is not in `0..classes`.
    pub fn new(name: &str, inputs: &Tensor, labels: &Tensor, classes: usize) -> Result<Self> {
        let (x, y) = (inputs.shape(), labels.shape());
        if x.rank() == 0 || y.rank() != 1 || x[0] != y[0] {
            return Err(Error::shape("dataset", "inputs [N, ..] and labels [N]", &[x, y]));
        }
        if labels.dtype() != DType::I64 {
            return Err(Error::DType {
                op: "dataset",
                expected: "i64".into(),
                got: labels.dtype(),
            });
        }
        let labels = labels.contiguous()?;
        for (at, &label) in labels.as_slice::<i64>()?.iter().enumerate() {
            if usize::try_from(label).map_or(true, |class| class >= classes) {
                return Err(Error::Index { op: "dataset", index: label, at, bound: classes });
            }
        }
        Ok(Self { name: name.to_owned(), inputs: inputs.clone(), labels, classes })
    }

    /// N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.numel()
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The examples `start .. start + count`, as a view.
    ///
    /// # Errors
    /// [`Error::Argument`] when there are fewer.
    pub fn range(&self, start: usize, count: usize) -> Result<Self> {
        if start.checked_add(count).is_none_or(|end| end > self.len()) {
            return Err(Error::Argument {
                op: "dataset",
                name: "range",
                expected: "within the examples",
                got: format!("{count} from {start} of {}", self.len()),
            });
        }
        Ok(Self {
            name: self.name.clone(),
            inputs: self.inputs.narrow(0, start, count)?,
            labels: self.labels.narrow(0, start, count)?,
            classes: self.classes,
        })
    }

    /// The first `at` examples and the rest, as views.
    ///
    /// # Errors
    /// As [`Dataset::range`].
    pub fn split(&self, at: usize) -> Result<(Self, Self)> {
        Ok((self.range(0, at)?, self.range(at, self.len().saturating_sub(at))?))
    }

    /// The examples at the given places, in that order.
    ///
    /// # Errors
    /// [`Error::Index`] for a place that does not exist.
    pub fn select(&self, places: &[usize]) -> Result<Self> {
        let index = room::collect("dataset", places.iter().map(|&i| i as i64))?;
        let index = Tensor::from_vec(index, [places.len()])?;
        let inputs = self.inputs.gather(0, &index)?;
        // The gather has checked the places.
        let all = self.labels.as_slice::<i64>()?;
        let labels = room::collect("dataset", places.iter().map(|&i| all[i]))?;
        Ok(Self {
            name: self.name.clone(),
            inputs,
            labels: Tensor::from_vec(labels, [places.len()])?,
            classes: self.classes,
        })
    }

    /// Mean and deviation of each feature over the examples, of the shape of one example. A
    /// deviation of 0 is given as 1, so that dividing by it is harmless.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn moments(&self) -> Result<(Tensor, Tensor)> {
        let wide = self.inputs.to_dtype(DType::F64)?;
        let variance = wide.variance(&[0])?;
        let of_entry: Vec<f64> = variance.to_vec()?;
        let deviation = Tensor::from_fn(variance.shape(), self.inputs.dtype(), |i| {
            if of_entry[i] > 0.0 { of_entry[i].sqrt() } else { 1.0 }
        });
        Ok((wide.mean(&[0])?.to_dtype(self.inputs.dtype())?, deviation))
    }

    /// (x − mean) / deviation for every input. Both broadcast: give scalars for one figure over
    /// all pixels, or another set's [`Dataset::moments`] for one a feature.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::DType`] when they do not fit.
    pub fn standardised(&self, mean: &Tensor, deviation: &Tensor) -> Result<Self> {
        let inputs = self.inputs.sub(mean)?.div(deviation)?;
        if inputs.shape() != self.inputs.shape() {
            let expected = "moments that broadcast to the inputs";
            return Err(Error::shape(
                "standardised",
                expected,
                &[self.inputs.shape(), mean.shape(), deviation.shape()],
            ));
        }
        Ok(Self { inputs, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy() -> Dataset {
        let inputs = Tensor::from_slice(&[1.0_f32, 5.0, 3.0, 5.0, 5.0, 5.0], [3, 2]).unwrap();
        let labels = Tensor::from_slice(&[0_i64, 1, 2], [3]).unwrap();
        Dataset::new("toy", &inputs, &labels, 3).unwrap()
    }

    #[test]
    fn labels_must_be_one_for_each_input_and_in_range() {
        let inputs = Tensor::zeros([2, 2], DType::F32);
        let make = |labels: &[i64]| {
            let labels = Tensor::from_slice(labels, [labels.len()]).unwrap();
            Dataset::new("t", &inputs, &labels, 2)
        };
        assert!(make(&[0, 1]).is_ok());
        assert!(matches!(make(&[0]), Err(Error::Shape { op: "dataset", .. })));
        assert!(matches!(make(&[0, 2]), Err(Error::Index { index: 2, at: 1, bound: 2, .. })));
        assert!(matches!(make(&[-1, 0]), Err(Error::Index { index: -1, at: 0, .. })));
        let floats = Dataset::new("t", &inputs, &Tensor::zeros([2], DType::F32), 2);
        assert!(matches!(floats, Err(Error::DType { .. })));
    }

    #[test]
    fn standardising_by_its_own_moments_gives_mean_zero_and_a_constant_feature_zero() {
        let data = toy();
        let (mean, deviation) = data.moments().unwrap();
        let data = data.standardised(&mean, &deviation).unwrap();
        let root = 1.5_f32.sqrt();
        let got = data.inputs.to_vec::<f32>().unwrap();
        for (got, expected) in got.iter().zip([-root, 0.0, 0.0, 0.0, root, 0.0]) {
            assert!((got - expected).abs() < 1e-6, "{got} for {expected}");
        }
        let wide = Tensor::ones([2, 3, 2], DType::F32);
        assert!(matches!(data.standardised(&wide, &wide), Err(Error::Shape { .. })));
    }

    #[test]
    fn parts_beyond_the_end_are_refused() {
        assert!(matches!(toy().split(4), Err(Error::Argument { .. })));
        assert!(matches!(toy().range(usize::MAX, 2), Err(Error::Argument { .. })));
        assert!(matches!(toy().select(&[3]), Err(Error::Index { index: 3, .. })));
        assert_eq!(toy().select(&[2, 0]).unwrap().labels.to_vec::<i64>().unwrap(), [2, 0]);
        assert!(toy().range(3, 0).unwrap().is_empty());
    }
}
