//! y = x ⋆ W + b: a window that slides along a line.

use engine::{Geometry, Parameter, Result, Rng, Var, Window, parameters};

use crate::{Module, init};

/// One-dimensional convolution (cross-correlation, as everywhere in machine learning).
///
/// # Shape
/// weight: `[out, in/groups, K]` · bias: `[out]` · x: `[N, in, L]` · result: `[N, out, OL]`. The window
/// is that of an image one pixel high, `Window::new((1, K))`: its second coordinates are the line's.
///
/// # Example
/// ```
/// use alcyon_nn::{Conv1d, Module};
/// use engine::{DType, Rng, Shape, Tensor, Window};
/// let window = Window { padding: (0, 1), ..Window::new((1, 3)) };
/// let layer = Conv1d::new(2, 8, window, &mut Rng::new(0));
/// let y = layer.predict(&Tensor::zeros([4, 2, 10], DType::F32))?;
/// assert_eq!(*y.shape(), Shape::from([4, 8, 10]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Conv1d {
    /// `[out, in/groups, K]`
    pub weight: Parameter,
    /// `[out]`, if there is one.
    pub bias: Option<Parameter>,
    /// How it slides. `forward` refuses one that does not fit.
    pub geometry: Geometry,
}
parameters!(Conv1d { weight, bias });

impl Conv1d {
    /// A convolution of all input channels, with a bias; both start as U(−1/√n, 1/√n) where n is in·K.
    #[must_use]
    pub fn new(inputs: usize, outputs: usize, window: Window, rng: &mut Rng) -> Self {
        Self::grouped(inputs, outputs, Geometry { window, groups: 1 }, rng)
    }

    /// Channels split into groups, each convolved by itself. Groups that do not divide the channels
    /// are refused by `forward`.
    #[must_use]
    pub fn grouped(inputs: usize, outputs: usize, geometry: Geometry, rng: &mut Rng) -> Self {
        let per_group = inputs.checked_div(geometry.groups).unwrap_or(0);
        let shape = [outputs, per_group, geometry.window.kernel.1];
        let (weight, bias) = init::weight_and_bias(shape, outputs, rng);
        Self { weight, bias: Some(bias), geometry }
    }

    /// The same layer without a bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }
}

impl Module for Conv1d {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let bias = self.bias.as_ref().map(|b| tape.bind(b));
        x.conv1d(&tape.bind(&self.weight), bias.as_ref(), self.geometry)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Parameters, Tensor};

    use super::*;

    #[test]
    fn a_window_of_one_is_a_linear_layer_on_channels() {
        let conv = Conv1d::new(3, 2, Window::new((1, 1)), &mut Rng::new(0));
        let x = Tensor::normal([2, 3, 5], 0.0, 1.0, DType::F32, &mut Rng::new(1));
        let got = conv.predict(&x).unwrap();
        let weight = conv.weight.value().reshape([2, 3]).unwrap();
        let rows = x.permute(&[0, 2, 1]).unwrap();
        let bias = conv.bias.as_ref().map(Parameter::value);
        let expected = rows.linear(&weight, bias).unwrap().permute(&[0, 2, 1]).unwrap();
        let pairs = got.to_vec::<f32>().unwrap().into_iter().zip(expected.to_vec().unwrap());
        assert!(pairs.into_iter().all(|(a, b): (f32, f32)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn its_bound_follows_the_fan_in_and_another_number_of_channels_is_refused() {
        let conv = Conv1d::new(5, 32, Window::new((1, 5)), &mut Rng::new(0)).without_bias();
        assert_eq!(conv.parameter_count(), 32 * 25);
        let largest = conv.weight.value().to_f64_vec().unwrap().into_iter().fold(0.0, f64::max);
        assert!(largest <= 0.2 && largest > 0.19, "{largest}");
        let refused = conv.predict(&Tensor::zeros([1, 4, 9], DType::F32));
        assert!(matches!(refused, Err(Error::Shape { op: "conv1d", .. })));
    }
}
