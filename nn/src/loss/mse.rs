//! L = (1/N) Σₙ (w/2) ‖zₙ − tₙ‖².   ∂L/∂z = w (z − t) / N,  ∂²L/∂z² = w I / N.

use engine::{Error, Likelihood, Result, Rng, Tensor, Var};
use rand_distr::{Distribution, StandardNormal};

use super::{one_component_each, rows, same_shape};

/// Regression: each row's target is normal around the outputs, with precision w in every component.
///
/// | constructor | w | value |
/// |---|---|---|
/// | [`Mse::new`] | 2 / C | the mean of (z − t)² over all N·C entries: PyTorch's `mse_loss` |
/// | [`Mse::half_sum`] | 1 | ½ Σ_c (z − t)², averaged over N rows: a normal of variance 1 |
///
/// Constants of the normal density are left out.
///
/// # Shape
/// outputs, targets: `[.., C]`; N is the number of rows.
///
/// # Example
/// ```
/// use alcyon_nn::Mse;
/// use engine::{Likelihood, Tape, Tensor};
/// let targets = Tensor::from_slice(&[0.0_f64, 0.0], [1, 2])?;
/// let outputs = Tape::off().input(Tensor::from_slice(&[3.0_f64, 1.0], [1, 2])?);
/// assert_eq!(Mse::new(&targets).nll(&outputs)?.item()?, (9.0 + 1.0) / 2.0);
/// assert_eq!(Mse::half_sum(&targets).nll(&outputs)?.item()?, 0.5 * (9.0 + 1.0));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mse {
    targets: Tensor,
    /// w
    precision: f64,
}

impl Mse {
    /// The mean over all entries of (z − t)².
    #[must_use]
    pub fn new(targets: &Tensor) -> Self {
        let (_, width) = rows(targets.shape());
        Self { targets: targets.clone(), precision: 2.0 / width.max(1) as f64 }
    }

    /// The mean over rows of ½ ‖z − t‖².
    #[must_use]
    pub fn half_sum(targets: &Tensor) -> Self {
        Self { targets: targets.clone(), precision: 1.0 }
    }
}

impl Likelihood for Mse {
    fn terms(&self) -> usize {
        rows(self.targets.shape()).0
    }

    fn nll(&self, outputs: &Var) -> Result<Var> {
        same_shape("mse", outputs.shape(), self.targets.shape())?;
        let targets = Var::constant(&self.targets);
        if targets.dtype() != outputs.dtype() {
            let expected = outputs.dtype().to_string();
            return Err(Error::DType { op: "mse", expected, got: targets.dtype() });
        }
        // Squares and their sum do not fit into 16 bits where their mean does.
        let wide = |x: &Var| x.to_dtype(outputs.dtype().computed_in());
        let gap = wide(outputs)?.sub(&wide(&targets)?)?;
        let sum = gap.mul(&gap)?.sum_all()?;
        sum.scale(self.precision / 2.0 / self.terms() as f64)?.to_dtype(outputs.dtype())
    }

    /// √w z / N with standard normal z: the target drawn is outputs − z / √w.
    fn sampled_seed(&self, outputs: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        same_shape("mse", outputs.shape(), self.targets.shape())?;
        let scale = self.precision.sqrt() / self.terms() as f64;
        Tensor::from_fn(outputs.shape(), outputs.dtype(), |_| {
            let z: f64 = StandardNormal.sample(rng);
            scale * z
        })
        .to_device(outputs.device())
    }

    /// √w e_c / N.
    fn exact_seeds(&self, outputs: &Tensor) -> Result<Vec<Tensor>> {
        same_shape("mse", outputs.shape(), self.targets.shape())?;
        let scale = self.precision.sqrt() / self.terms() as f64;
        one_component_each(outputs, |_| scale)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Tape};

    use super::*;

    #[test]
    fn the_gradient_is_the_gap_times_two_over_the_entries() {
        let targets = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]).unwrap();
        let loss = Mse::new(&targets);
        let tape = Tape::new();
        let z = tape.watch(Tensor::zeros([3, 2], DType::F64));
        let nll = loss.nll(&z).unwrap();
        assert!((nll.item().unwrap() - 91.0 / 6.0).abs() < 1e-13);
        let grads = tape.backward(&nll).unwrap();
        for (got, t) in grads.of_var(&z).unwrap().to_vec::<f64>().unwrap().into_iter().zip(1..) {
            assert!((got + 2.0 * f64::from(t) / 6.0).abs() < 1e-14);
        }
    }

    #[test]
    fn a_column_of_scalars_has_as_many_terms_as_rows() {
        assert_eq!(Mse::new(&Tensor::zeros([7, 1], DType::F32)).terms(), 7);
        assert_eq!(Mse::new(&Tensor::zeros([2, 5, 3], DType::F32)).terms(), 10);
        assert_eq!(Mse::new(&Tensor::zeros((), DType::F32)).terms(), 1);
    }
}
