//! The adjoint of a convolution, plus b: every pixel is spread over a patch.

use engine::{Geometry, Parameter, Result, Rng, Var, Window, parameters};

use crate::{Module, init};

/// Transposed two-dimensional convolution, with a bias. With stride 2 it doubles an image's size.
///
/// The weight and the bias leave a record each ([`Layer::Bias`](engine::Layer::Bias)): they are two layers to an
/// optimizer that takes curvature.
///
/// # Shape
/// weight: `[in, out/groups, KH, KW]` · bias: `[out]` · x: `[N, in, H, W]` ·
/// result: `[N, out, OH, OW]` with
/// OH = (H − 1)·stride − 2·padding + dilation·(KH − 1) + 1 + output_padding
///
/// # Example
/// ```
/// use alcyon_nn::{ConvTranspose2d, Module};
/// use engine::{DType, Rng, Shape, Tensor, Window};
/// let window = Window { stride: (2, 2), ..Window::new((2, 2)) };
/// let layer = ConvTranspose2d::new(8, 3, window, &mut Rng::new(0));
/// let y = layer.predict(&Tensor::zeros([4, 8, 5, 5], DType::F32))?;
/// assert_eq!(*y.shape(), Shape::from([4, 3, 10, 10]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct ConvTranspose2d {
    /// `[in, out/groups, KH, KW]`
    pub weight: Parameter,
    /// `[out]`, if there is one.
    pub bias: Option<Parameter>,
    /// The convolution whose adjoint this is. `forward` refuses one that does not fit.
    pub geometry: Geometry,
    /// Rows and columns more, less than the stride; 0 at first.
    pub output_padding: (usize, usize),
}
parameters!(ConvTranspose2d { weight, bias });

impl ConvTranspose2d {
    /// All channels in one group; weight and bias start as U(−1/√n, 1/√n) where n is out·KH·KW, as
    /// PyTorch's do.
    #[must_use]
    pub fn new(inputs: usize, outputs: usize, window: Window, rng: &mut Rng) -> Self {
        Self::grouped(inputs, outputs, Geometry { window, groups: 1 }, rng)
    }

    /// Channels split into groups. Groups that do not divide the channels are refused by `forward`.
    #[must_use]
    pub fn grouped(inputs: usize, outputs: usize, geometry: Geometry, rng: &mut Rng) -> Self {
        let per_group = outputs.checked_div(geometry.groups).unwrap_or(0);
        let (height, width) = geometry.window.kernel;
        let shape = [inputs, per_group, height, width];
        let (weight, bias) = init::weight_and_bias(shape, outputs, rng);
        Self { weight, bias: Some(bias), geometry, output_padding: (0, 0) }
    }

    /// The same layer without a bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }
}

impl Module for ConvTranspose2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let bias = self.bias.as_ref().map(|b| tape.bind(b));
        let weight = tape.bind(&self.weight);
        x.conv_transpose2d(&weight, bias.as_ref(), self.geometry, self.output_padding)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Parameters, Tensor};

    use super::*;
    use crate::Conv2d;

    #[test]
    fn an_image_goes_back_to_the_size_that_a_convolution_took() {
        let window = Window { stride: (2, 3), padding: (1, 1), ..Window::new((3, 4)) };
        let rng = &mut Rng::new(0);
        let (down, mut up) =
            (Conv2d::new(2, 5, window, rng), ConvTranspose2d::new(5, 2, window, rng));
        assert_eq!(up.weight.value().shape(), down.weight.value().shape());
        let x = Tensor::ones([1, 2, 10, 13], DType::F32);
        let small = down.predict(&x).unwrap();
        up.output_padding = (1, 2);
        assert_eq!(up.predict(&small).unwrap().shape(), x.shape());
        assert_eq!(up.parameter_count(), down.parameter_count() - 5 + 2);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_forward() {
        let mut layer = ConvTranspose2d::new(3, 2, Window::new((2, 2)), &mut Rng::new(0));
        let other = layer.predict(&Tensor::zeros([1, 4, 3, 3], DType::F32));
        assert!(matches!(other, Err(Error::Shape { op: "conv_transpose2d", .. })));
        layer.output_padding = (1, 0);
        let more = layer.predict(&Tensor::zeros([1, 3, 3, 3], DType::F32));
        assert!(matches!(more, Err(Error::Argument { name: "output_padding", .. })));
    }
}
