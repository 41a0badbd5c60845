//! y = γ ∘ (x − μ) / √(σ² + ε) + β, per row.

use engine::{DType, Parameter, Result, Tensor, Var, parameters};

use crate::Module;

/// Layer normalisation over the last axis: μ and σ² (divided by the count) are each row's own.
///
/// # Shape
/// parameters: `[D]` · x: `[.., D]` · result: `[.., D]`
///
/// # Source
/// Ba, Kiros & Hinton 2016, eq. 4.
///
/// # Example
/// ```
/// use alcyon_nn::{LayerNorm, Module};
/// use engine::Tensor;
/// let y = LayerNorm::new(2).predict(&Tensor::from_slice(&[7.0_f32, 9.0], [1, 2])?)?;
/// let y = y.to_vec::<f32>()?; // mean 8, deviation 1
/// assert!((y[0] + 1.0).abs() < 1e-5 && (y[1] - 1.0).abs() < 1e-5);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct LayerNorm {
    /// γ, `[D]`
    pub weight: Parameter,
    /// β, `[D]`, if there is one.
    pub bias: Option<Parameter>,
    /// ε, added to the variance; 1e-5 at first.
    pub eps: f64,
}
parameters!(LayerNorm { weight, bias });

impl LayerNorm {
    /// γ = 1, β = 0.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            weight: Parameter::new(Tensor::ones([width], DType::F32)),
            bias: Some(Parameter::new(Tensor::zeros([width], DType::F32))),
            eps: 1e-5,
        }
    }

    /// The same layer without β.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let shift = self.bias.as_ref().map(|b| tape.bind(b));
        x.layer_norm(Some(&tape.bind(&self.weight)), shift.as_ref(), self.eps)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Parameters, Rng};

    use super::*;

    #[test]
    fn scale_and_shift_act_on_features_of_rows_with_mean_zero_and_variance_one() {
        let mut norm = LayerNorm::new(16);
        *norm.weight.value_mut() = Tensor::full([16], 2.0, DType::F32);
        norm.bias = Some(Parameter::new(Tensor::full([16], 0.5, DType::F32)));
        let x = Tensor::normal([3, 4, 16], -1.0, 5.0, DType::F32, &mut Rng::new(0));
        let y = norm.predict(&x).unwrap();
        let all = |t: Tensor, value: f64| {
            t.to_f64_vec().unwrap().iter().all(|x| (x - value).abs() < 1e-4)
        };
        assert!(all(y.mean(&[-1]).unwrap(), 0.5));
        assert!(all(y.variance(&[-1]).unwrap(), 4.0));
    }

    #[test]
    fn another_width_is_refused_and_the_bias_can_be_left_out() {
        let norm = LayerNorm::new(4).without_bias();
        assert_eq!(norm.parameter_count(), 4);
        assert!(norm.predict(&Tensor::ones([2, 4], DType::F32)).is_ok());
        let refused = norm.predict(&Tensor::ones([2, 3], DType::F32));
        assert!(matches!(refused, Err(Error::Shape { op: "layer_norm", .. })));
    }
}
