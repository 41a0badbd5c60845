//! Random projection: many features to few, almost keeping distances.

use engine::{DType, Error, Result, Rng, Tensor};

use super::Dataset;
use crate::init;

/// y = (x − mean) Q / s: Q `[D, d]` has orthonormal columns that are uniformly distributed, the
/// means are those of the D training features, and s is the deviation of all projected training
/// numbers, so that these have mean 0 and variance 1.
///
/// # Source
/// Johnson & Lindenstrauss 1984; as the test bed of 256 dimensions for CIFAR-10 in the thesis that
/// Alcyon follows, chapter "guided descent".
///
/// # Example
/// ```
/// use alcyon_nn::data::{digits, Projection};
/// let (train, test) = digits()?;
/// let projection = Projection::fit(&train, 16, 0)?;
/// assert_eq!(*projection.apply(&test)?.inputs.shape(), [360, 16][..]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Projection {
    /// Q / s, `[D, d]`
    matrix: Tensor,
    /// mean Q / s, `[d]`
    offset: Tensor,
}

impl Projection {
    /// The projection of a training set to d `dimensions`; Q depends on the seed alone.
    ///
    /// # Errors
    /// [`Error::Argument`] unless there are at least as many features as dimensions, and both some,
    /// and at least one example.
    pub fn fit(train: &Dataset, dimensions: usize, seed: u64) -> Result<Self> {
        let flat = flat(train)?;
        let (count, features) = (flat.shape()[0], flat.shape()[1]);
        if dimensions == 0 || features < dimensions || count == 0 {
            return Err(Error::Argument {
                op: "projection",
                name: "dimensions",
                expected: "1 ..= the number of features, of at least one example",
                got: format!("{dimensions} for {count} examples of {features}"),
            });
        }
        let dtype = flat.dtype();
        let q = init::orthogonal([features, dimensions], 1.0, &mut Rng::new(seed))?;
        let q = q.to_dtype(dtype)?;
        let seen = flat.matmul(&q)?;
        let mean = seen.mean(&[0])?;
        let deviation = seen.sub(&mean)?.square()?.mean_all()?.item()?.sqrt();
        let scale = if deviation > 0.0 { 1.0 / deviation } else { 1.0 };
        Ok(Self { matrix: q.scale(scale)?, offset: mean.scale(scale)? })
    }

    /// The projected examples, inputs `[N, d]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for other features than those of the training set.
    pub fn apply(&self, data: &Dataset) -> Result<Dataset> {
        let inputs = flat(data)?.matmul(&self.matrix)?.sub(&self.offset)?;
        Dataset::new(&data.name, &inputs, &data.labels, data.classes)
    }
}

/// `[N, D]`
fn flat(data: &Dataset) -> Result<Tensor> {
    let features = data.inputs.shape()[1..].iter().product();
    let inputs = data.inputs.reshape([data.len(), features])?;
    if inputs.dtype() == DType::F64 { Ok(inputs) } else { inputs.to_dtype(DType::F32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(count: usize, features: usize) -> Dataset {
        let inputs = Tensor::normal([count, features], 3.0, 2.0, DType::F64, &mut Rng::new(1));
        Dataset::new("t", &inputs, &Tensor::zeros([count], DType::I64), 1).unwrap()
    }

    #[test]
    fn projected_training_data_have_mean_zero_and_variance_one_and_seeds_repeat() {
        let train = data(50, 12);
        let project = |seed| {
            let projected = Projection::fit(&train, 5, seed).unwrap().apply(&train).unwrap();
            projected.inputs.to_vec::<f64>().unwrap()
        };
        let got = project(3);
        let mean = got.iter().sum::<f64>() / 250.0;
        let square = got.iter().map(|x| x * x).sum::<f64>() / 250.0;
        // The random matrix is drawn in f32.
        assert!(mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-6, "{mean} {square}");
        assert_eq!(got, project(3));
        assert_ne!(got, project(4));
    }

    #[test]
    fn keeping_all_dimensions_keeps_all_distances_up_to_the_scale() {
        let train = data(6, 4);
        let distances = |data: &Dataset| -> Vec<f64> {
            let x = data.inputs.to_vec::<f64>().unwrap();
            let pair = |(i, j): (usize, usize)| -> f64 {
                (0..4).map(|k| (x[i * 4 + k] - x[j * 4 + k]).powi(2)).sum()
            };
            (0..6).flat_map(|i| (0..i).map(move |j| (i, j))).map(pair).collect()
        };
        let (before, after) = (
            distances(&train),
            distances(&Projection::fit(&train, 4, 0).unwrap().apply(&train).unwrap()),
        );
        let scale = before[0] / after[0];
        let near = |(a, b): (&f64, &f64)| (a / b / scale - 1.0).abs() < 1e-5;
        assert!(before.iter().zip(&after).all(near), "{before:?} {after:?}");
    }

    #[test]
    fn too_few_features_or_none_are_refused() {
        for (count, features, dimensions) in [(3, 4, 5), (3, 4, 0), (0, 4, 2)] {
            let got = Projection::fit(&data(count, features), dimensions, 0);
            assert!(matches!(got, Err(Error::Argument { .. })), "{count} {features} {dimensions}");
        }
        let fitted = Projection::fit(&data(3, 4), 2, 0).unwrap();
        assert!(matches!(fitted.apply(&data(3, 5)), Err(Error::Shape { .. })));
    }
}
