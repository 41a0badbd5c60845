//! y = γ ∘ x / √(mean(x²) + ε), per row.

use engine::{DType, Parameter, Result, Tensor, Var, parameters};

use crate::Module;

/// RMS normalisation over the last axis: layer norm without a mean and without β.
///
/// # Shape
/// weight: `[D]` · x: `[.., D]` · result: `[.., D]`
///
/// # Source
/// Zhang & Sennrich 2019, eq. 4.
///
/// # Example
/// ```
/// use alcyon_nn::{Module, RmsNorm};
/// use engine::Tensor;
/// let y = RmsNorm::new(2).predict(&Tensor::from_slice(&[1.0_f32, -7.0], [1, 2])?)?;
/// let y = y.to_vec::<f32>()?; // mean square 25
/// assert!((y[0] - 0.2).abs() < 1e-5 && (y[1] + 1.4).abs() < 1e-5);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct RmsNorm {
    /// γ, `[D]`
    pub weight: Parameter,
    /// ε, added to the mean square; 1e-5 at first.
    pub eps: f64,
}
parameters!(RmsNorm { weight });

impl RmsNorm {
    /// γ = 1.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { weight: Parameter::new(Tensor::ones([width], DType::F32)), eps: 1e-5 }
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        x.rms_norm(Some(&x.tape()?.bind(&self.weight)), self.eps)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Parameters, Rng};

    use super::*;

    #[test]
    fn scale_acts_on_features_of_rows_with_mean_square_one() {
        let mut norm = RmsNorm::new(16);
        *norm.weight.value_mut() = Tensor::full([16], 3.0, DType::F32);
        let x = Tensor::normal([3, 4, 16], -1.0, 5.0, DType::F32, &mut Rng::new(0));
        let squares = norm.predict(&x).unwrap().square().unwrap().mean(&[-1]).unwrap();
        assert!(squares.to_f64_vec().unwrap().iter().all(|s| (s - 9.0).abs() < 1e-3));
    }

    #[test]
    fn another_width_is_refused() {
        let norm = RmsNorm::new(4);
        assert_eq!(norm.parameter_count(), 4);
        let refused = norm.predict(&Tensor::ones([2, 3], DType::F32));
        assert!(matches!(refused, Err(Error::Shape { op: "rms_norm", .. })));
    }
}
