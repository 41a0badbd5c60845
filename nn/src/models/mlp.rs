//! Linear layers with a nonlinearity between them.
//!
//! ```text
//! x → linear → relu → … → linear → logits
//! ```

use engine::{Result, Rng, Var, parameters};

use super::demand;
use crate::Module;
use crate::layer::{Activation, Linear};

/// The sizes of an [`Mlp`] whose hidden layers are equally wide. `Default` is the test bed of "Towards Guided
/// Descent" (Nagwekar, University of Pennsylvania): 256 numbers, a random projection of a
/// CIFAR-10 image, three layers 256 wide, ten classes; 134,154 parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MlpConfig {
    /// Numbers per example.
    pub inputs: usize,
    /// The width of every hidden layer.
    pub width: usize,
    /// Linear layers, the last one included; at least 1.
    pub depth: usize,
    /// Outputs.
    pub classes: usize,
    /// Between any two layers.
    pub activation: Activation,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { inputs: 256, width: 256, depth: 3, classes: 10, activation: Activation::Relu }
    }
}

impl MlpConfig {
    /// The model; all starts as [`Linear`] does.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0.
    ///
    /// # Example
    /// ```
    /// use alcyon_nn::models::MlpConfig;
    /// use engine::{Parameters, Rng};
    /// let model = MlpConfig::default().build(&mut Rng::new(0))?;
    /// assert_eq!(model.parameter_count(), 2 * (256 + 1) * 256 + (256 + 1) * 10);
    /// # Ok::<(), engine::Error>(())
    /// ```
    pub fn build(&self, rng: &mut Rng) -> Result<Mlp> {
        let Self { inputs, width, depth, classes, activation } = *self;
        for (name, size) in
            [("inputs", inputs), ("width", width), ("depth", depth), ("classes", classes)]
        {
            demand("mlp", name, size > 0, "at least 1", &size)?;
        }
        let mut widths = vec![width; depth + 1];
        (widths[0], widths[depth]) = (inputs, classes);
        Ok(Mlp::new(&widths, rng).with_activation(activation))
    }
}

/// A multilayer perceptron: linear, activation, linear, …, linear. Inputs with more than two axes
/// are flattened first, so that images go straight in.
///
/// # Shape
/// x: `[N, ..]` whose axes after the first have `widths[0]` elements · result: `[N, last width]`
///
/// # Example
/// ```
/// use alcyon_nn::{Mlp, Module};
/// use engine::{DType, Parameters, Rng, Shape, Tensor};
/// let model = Mlp::new(&[64, 128, 10], &mut Rng::new(0));
/// assert_eq!(model.parameter_count(), (64 + 1) * 128 + (128 + 1) * 10);
/// let y = model.predict(&Tensor::zeros([5, 1, 8, 8], DType::F32))?;
/// assert_eq!(*y.shape(), Shape::from([5, 10]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Mlp {
    /// From the input to the output.
    pub layers: Vec<Linear>,
    /// Between any two layers.
    pub activation: Activation,
}
parameters!(Mlp { layers });

impl Mlp {
    /// Layers of the given widths, input first, with relu between them. Fewer than two widths
    /// give no layers: the identity.
    #[must_use]
    pub fn new(widths: &[usize], rng: &mut Rng) -> Self {
        let layers = widths.windows(2).map(|w| Linear::new(w[0], w[1], rng)).collect();
        Self { layers, activation: Activation::Relu }
    }

    /// The same layers with another nonlinearity between them.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Var) -> Result<Var> {
        let mut x = if x.rank() > 2 { x.flatten(1)? } else { x.clone() };
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                x = self.activation.forward(&x)?;
            }
            x = layer.forward_at(&format!("layers.{i}"), &x)?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Parameters, Tensor};

    use super::*;

    #[test]
    fn the_activation_stands_between_layers_and_not_after_the_last() {
        let model = Mlp::new(&[2, 3, 1], &mut Rng::new(1)).with_activation(Activation::Tanh);
        let x = Tensor::from_slice(&[0.3_f32, -2.0], [1, 2]).unwrap();
        let hidden = model.layers[0].predict(&x).unwrap().tanh().unwrap();
        let expected = model.layers[1].predict(&hidden).unwrap().item().unwrap();
        assert!((model.predict(&x).unwrap().item().unwrap() - expected).abs() < 1e-7);
    }

    #[test]
    fn paths_and_errors_name_the_layer() {
        let model = Mlp::new(&[4, 3, 2], &mut Rng::new(0));
        let paths: Vec<String> = model.parameters().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]);
        let error = model.predict(&Tensor::zeros([1, 5], DType::F32)).unwrap_err();
        assert!(error.to_string().starts_with("layers.0: linear: "), "{error}");
    }

    #[test]
    fn one_layer_is_a_linear_map_and_no_layer_is_refused() {
        let config = MlpConfig { depth: 1, inputs: 5, classes: 2, ..MlpConfig::default() };
        let model = config.build(&mut Rng::new(0)).unwrap();
        assert_eq!(*model.layers[0].weight.value().shape(), engine::Shape::from([2, 5]));
        let none = MlpConfig { depth: 0, ..config }.build(&mut Rng::new(0));
        assert!(matches!(none, Err(Error::Argument { op: "mlp", name: "depth", .. })));
    }
}
