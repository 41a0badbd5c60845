//! y = γ ∘ (x − μ) / √(σ² + ε) + β, per example and group of channels.

use engine::{DType, Parameter, Result, Tensor, Var, parameters};

use crate::Module;

/// Group normalisation: μ and σ² of a group of neighbouring channels and all positions, of one
/// example. It does not depend on the size of the batch.
///
/// # Shape
/// parameters: `[C]` · x: `[N, C, ..]` · result: `[N, C, ..]`
///
/// # Source
/// Wu & He 2018, eq. 7.
///
/// # Example
/// ```
/// use alcyon_nn::{GroupNorm, Module};
/// use engine::Tensor;
/// let x = Tensor::from_slice(&[1.0_f32, 5.0, 7.0, 11.0], [1, 4])?; // means 3 and 9, deviations 2
/// let y = GroupNorm::new(2, 4).predict(&x)?.to_vec::<f32>()?;
/// assert!(y.iter().zip([-1.0, 1.0, -1.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-5));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct GroupNorm {
    /// γ, `[C]`
    pub weight: Parameter,
    /// β, `[C]`
    pub bias: Parameter,
    /// The number of groups, a divisor of C. `forward` refuses one that is not.
    pub groups: usize,
    /// ε, added to the variance; 1e-5 at first.
    pub eps: f64,
}
parameters!(GroupNorm { weight, bias });

impl GroupNorm {
    /// γ = 1, β = 0.
    #[must_use]
    pub fn new(groups: usize, channels: usize) -> Self {
        Self {
            weight: Parameter::new(Tensor::ones([channels], DType::F32)),
            bias: Parameter::new(Tensor::zeros([channels], DType::F32)),
            groups,
            eps: 1e-5,
        }
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let (scale, shift) = (tape.bind(&self.weight), tape.bind(&self.bias));
        x.group_norm(self.groups, Some(&scale), Some(&shift), self.eps)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Rng};

    use super::*;

    #[test]
    fn a_group_has_mean_zero_and_variance_one_before_its_channels_are_scaled_and_shifted() {
        let mut norm = GroupNorm::new(2, 6);
        *norm.weight.value_mut() = Tensor::full([6], 2.0, DType::F32);
        *norm.bias.value_mut() = Tensor::full([6], 0.5, DType::F32);
        let x = Tensor::normal([3, 6, 4, 4], -1.0, 5.0, DType::F32, &mut Rng::new(0));
        let groups = norm.predict(&x).unwrap().reshape([6, 48]).unwrap();
        let all = |t: Tensor, value: f64| {
            t.to_f64_vec().unwrap().iter().all(|x| (x - value).abs() < 1e-4)
        };
        assert!(all(groups.mean(&[-1]).unwrap(), 0.5));
        assert!(all(groups.variance(&[-1]).unwrap(), 4.0));
    }

    #[test]
    fn other_channels_and_groups_that_do_not_divide_them_are_refused() {
        let x = Tensor::ones([2, 6, 3], DType::F32);
        let fewer = GroupNorm::new(2, 4).predict(&x);
        assert!(matches!(fewer, Err(Error::Shape { op: "group_norm", .. })));
        let uneven = GroupNorm::new(4, 6).predict(&x);
        assert!(matches!(uneven, Err(Error::Argument { op: "group_norm", name: "groups", .. })));
    }
}
