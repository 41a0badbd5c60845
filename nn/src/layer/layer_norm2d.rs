//! Layer norm of every pixel, over its channels.

use engine::{DType, Parameter, Result, Tensor, Var, parameters};

use crate::Module;

/// [`LayerNorm`](crate::LayerNorm) over axis 1 of images.
///
/// # Shape
/// parameters: `[C]` · x: `[N, C, H, W]` · result: as x
///
/// # Example
/// ```
/// use alcyon_nn::{LayerNorm2d, Module};
/// use engine::Tensor;
/// let x = Tensor::from_slice(&[7.0_f32, 9.0], [1, 2, 1, 1])?; // one pixel: mean 8, deviation 1
/// let y = LayerNorm2d::new(2).predict(&x)?.to_vec::<f32>()?;
/// assert!((y[0] + 1.0).abs() < 1e-5 && (y[1] - 1.0).abs() < 1e-5);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct LayerNorm2d {
    /// γ, `[C]`
    pub weight: Parameter,
    /// β, `[C]`
    pub bias: Parameter,
    /// ε, added to the variance; 1e-5 at first.
    pub eps: f64,
}
parameters!(LayerNorm2d { weight, bias });

impl LayerNorm2d {
    /// γ = 1, β = 0.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        let fill = |value| Parameter::new(Tensor::full([channels], value, DType::F32));
        Self { weight: fill(1.0), bias: fill(0.0), eps: 1e-5 }
    }
}

impl Module for LayerNorm2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let (scale, shift) = (tape.bind(&self.weight), tape.bind(&self.bias));
        let last = x.permute(&[0, 2, 3, 1])?;
        last.layer_norm(Some(&scale), Some(&shift), self.eps)?.permute(&[0, 3, 1, 2])
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Rng};

    use super::*;
    use crate::LayerNorm;

    #[test]
    fn each_pixel_is_normalised_as_a_row_would_be() {
        let x = Tensor::normal([2, 3, 4, 5], 1.0, 2.0, DType::F32, &mut Rng::new(0));
        let got = LayerNorm2d::new(3).predict(&x).unwrap().permute(&[0, 2, 3, 1]).unwrap();
        let rows = x.permute(&[0, 2, 3, 1]).unwrap().contiguous().unwrap();
        let expected = LayerNorm::new(3).predict(&rows).unwrap();
        assert_eq!(got.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
        let other = LayerNorm2d::new(2).predict(&x);
        assert!(matches!(other, Err(Error::Shape { op: "layer_norm", .. })));
    }
}
