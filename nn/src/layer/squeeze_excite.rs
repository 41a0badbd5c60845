//! y = x ∘ s, where s weighs every channel by what all of the image says.

use engine::{DType, Geometry, Parameter, Result, Rng, Tensor, Var, Window, parameters};

use crate::{Conv2d, Module, init};

/// Squeeze and excitation: s = σ(fc2(relu(fc1(mean over the image of x)))) with the hard sigmoid, one
/// number for each channel. The linear maps are convolutions of 1 × 1, as torchvision has them.
///
/// # Shape
/// fc1: `[squeezed, C, 1, 1]` · fc2: `[C, squeezed, 1, 1]` · x: `[N, C, H, W]` · result: as x
///
/// # Source
/// Hu, Shen & Sun 2018, section 3; the hard sigmoid: Howard et al. 2019.
///
/// # Example
/// ```
/// use alcyon_nn::{Module, SqueezeExcite};
/// use engine::{DType, Rng, Tensor};
/// let mut layer = SqueezeExcite::new(4, 2, &mut Rng::new(0));
/// *layer.fc2.weight.value_mut() = Tensor::zeros([4, 2, 1, 1], DType::F32);
/// let y = layer.predict(&Tensor::full([1, 4, 2, 2], 6.0, DType::F32))?;
/// assert_eq!(y.to_vec::<f32>()?, [3.0; 16]); // hard sigmoid of 0: one half
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct SqueezeExcite {
    /// From the channels to fewer.
    pub fc1: Conv2d,
    /// And back.
    pub fc2: Conv2d,
}
parameters!(SqueezeExcite { fc1, fc2 });

impl SqueezeExcite {
    /// Weights from N(0, 2 / fan_out), biases 0.
    #[must_use]
    pub fn new(channels: usize, squeezed: usize, rng: &mut Rng) -> Self {
        let mut pointwise = |inputs: usize, outputs: usize| Conv2d {
            weight: Parameter::new(init::fan_out_normal(
                [outputs, inputs, 1, 1],
                init::relu_gain(0.0),
                rng,
            )),
            bias: Some(Parameter::new(Tensor::zeros([outputs], DType::F32))),
            geometry: Geometry { window: Window::new((1, 1)), groups: 1 },
        };
        Self { fc1: pointwise(channels, squeezed), fc2: pointwise(squeezed, channels) }
    }
}

impl Module for SqueezeExcite {
    fn forward(&self, x: &Var) -> Result<Var> {
        let inner = self.fc1.forward_at("fc1", &x.adaptive_avg_pool2d((1, 1))?)?.relu()?;
        x.mul(&self.fc2.forward_at("fc2", &inner)?.hard_sigmoid()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_weighed_by_means_and_not_by_where_things_are() {
        let layer = SqueezeExcite::new(3, 2, &mut Rng::new(0));
        let x = Tensor::normal([2, 3, 4, 5], 0.0, 2.0, DType::F32, &mut Rng::new(1));
        let y = layer.predict(&x).unwrap();
        let moved = layer.predict(&x.roll(&[1, 2], &[2, 3]).unwrap()).unwrap();
        let back = moved.roll(&[-1, -2], &[2, 3]).unwrap().to_vec::<f32>().unwrap();
        let pairs = y.to_vec::<f32>().unwrap().into_iter().zip(back);
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
        // Within one channel of one example, y / x is one number, in 0 ..= 1.
        let ratio = y.div(&x).unwrap().reshape([6, 20]).unwrap();
        for row in ratio.to_vec::<f32>().unwrap().chunks(20) {
            assert!(row.iter().all(|r| (r - row[0]).abs() < 1e-5 && (0.0..=1.0).contains(r)));
        }
    }
}
