//! y = x ⋆ W + b: a window that slides over an image.

use engine::{Geometry, Parameter, Result, Rng, Var, Window, parameters};

use crate::{Module, init};

/// Two-dimensional convolution (cross-correlation, as everywhere in machine learning).
///
/// # Shape
/// weight: `[out, in/groups, KH, KW]` · bias: `[out]` · x: `[N, in, H, W]` ·
/// result: `[N, out, OH, OW]` with OH, OW as [`Window::output`] says
///
/// # Example
/// ```
/// use alcyon_nn::{Conv2d, Module};
/// use engine::{DType, Rng, Shape, Tensor, Window};
/// let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
/// let layer = Conv2d::new(1, 16, window, &mut Rng::new(0));
/// let y = layer.predict(&Tensor::zeros([4, 1, 8, 8], DType::F32))?;
/// assert_eq!(*y.shape(), Shape::from([4, 16, 8, 8]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Conv2d {
    /// `[out, in/groups, KH, KW]`
    pub weight: Parameter,
    /// `[out]`, if there is one.
    pub bias: Option<Parameter>,
    /// How it slides. `forward` refuses one that does not fit.
    pub geometry: Geometry,
}
parameters!(Conv2d { weight, bias });

impl Conv2d {
    /// A convolution of all input channels, with a bias; both start as U(−1/√n, 1/√n) where n is
    /// in·KH·KW.
    #[must_use]
    pub fn new(inputs: usize, outputs: usize, window: Window, rng: &mut Rng) -> Self {
        Self::grouped(inputs, outputs, Geometry { window, groups: 1 }, rng)
    }

    /// Channels split into groups, each convolved by itself. Groups that do not divide the
    /// channels are refused by `forward`.
    #[must_use]
    pub fn grouped(inputs: usize, outputs: usize, geometry: Geometry, rng: &mut Rng) -> Self {
        let per_group = inputs.checked_div(geometry.groups).unwrap_or(0);
        let (height, width) = geometry.window.kernel;
        let shape = [outputs, per_group, height, width];
        let (weight, bias) = init::weight_and_bias(shape, outputs, rng);
        Self { weight, bias: Some(bias), geometry }
    }

    /// The same layer without a bias, as before a batch norm.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let bias = self.bias.as_ref().map(|b| tape.bind(b));
        x.conv2d(&tape.bind(&self.weight), bias.as_ref(), self.geometry)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Parameters, Tensor};

    use super::*;

    #[test]
    fn a_window_of_one_pixel_is_a_linear_layer_on_channels() {
        let conv = Conv2d::new(3, 2, Window::new((1, 1)), &mut Rng::new(0));
        let x = Tensor::normal([2, 3, 4, 5], 0.0, 1.0, DType::F32, &mut Rng::new(1));
        let got = conv.predict(&x).unwrap();
        let weight = conv.weight.value().reshape([2, 3]).unwrap();
        let rows = x.permute(&[0, 2, 3, 1]).unwrap();
        let bias = conv.bias.as_ref().map(Parameter::value);
        let expected = rows.linear(&weight, bias).unwrap().permute(&[0, 3, 1, 2]).unwrap();
        let pairs = got.to_vec::<f32>().unwrap().into_iter().zip(expected.to_vec().unwrap());
        assert!(pairs.into_iter().all(|(a, b): (f32, f32)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn groups_shrink_the_weight_and_its_bound_follows_the_fan_in() {
        let geometry = Geometry { window: Window::new((3, 3)), groups: 4 };
        let conv = Conv2d::grouped(16, 32, geometry, &mut Rng::new(0));
        assert_eq!(*conv.weight.value().shape(), engine::Shape::from([32, 4, 3, 3]));
        assert_eq!(conv.parameter_count(), 32 * 36 + 32);
        let largest = conv.weight.value().to_f64_vec().unwrap().into_iter().fold(0.0, f64::max);
        assert!(largest <= 1.0 / 6.0 && largest > 0.15, "{largest}");
    }

    #[test]
    fn geometry_that_does_not_fit_is_refused_by_forward() {
        let x = Tensor::zeros([1, 6, 5, 5], DType::F32);
        let none = Geometry { window: Window::new((3, 3)), groups: 0 };
        let four = Geometry { groups: 4, ..none };
        let large = Geometry { window: Window::new((7, 7)), groups: 1 };
        let refused = |g| Conv2d::grouped(6, 8, g, &mut Rng::new(0)).predict(&x).unwrap_err();
        assert!(matches!(refused(none), Error::Argument { op: "conv2d", .. }));
        assert!(matches!(refused(four), Error::Shape { op: "conv2d", .. }));
        assert!(matches!(refused(large), Error::Shape { op: "conv2d", .. }));
    }
}
