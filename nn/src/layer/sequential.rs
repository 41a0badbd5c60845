//! Layers one after another.

use std::fmt;

use engine::parameter::{Member, MemberMut, join};
use engine::{Parameters, Result, Var};

use crate::Module;

/// Modules applied in order. Each has a name, which stands in parameter paths and errors: its
/// position, unless [`Sequential::named`] gave another.
///
/// # Example
/// ```
/// use alcyon_nn::layer::{Linear, Relu, Sequential};
/// use engine::{Parameters, Rng};
/// let rng = &mut Rng::new(0);
/// let model = Sequential::new()
///     .then(Linear::new(4, 8, rng))
///     .then(Relu)
///     .named("head", Linear::new(8, 2, rng).without_bias());
/// let paths: Vec<String> = model.parameters().into_iter().map(|(path, _)| path).collect();
/// assert_eq!(paths, ["0.weight", "0.bias", "head.weight"]);
/// ```
#[derive(Default)]
pub struct Sequential {
    layers: Vec<(String, Box<dyn Module>)>,
}

impl Sequential {
    /// No layers: the identity.
    #[must_use]
    pub const fn new() -> Self {
        Self { layers: Vec::new() }
    }

    /// With one more layer, named by its position.
    #[must_use]
    pub fn then(self, layer: impl Module + 'static) -> Self {
        let name = self.layers.len().to_string();
        self.named(&name, layer)
    }

    /// With one more layer of a given name.
    #[must_use]
    pub fn named(mut self, name: &str, layer: impl Module + 'static) -> Self {
        self.layers.push((name.to_owned(), Box::new(layer)));
        self
    }

    /// The number of layers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is no layer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.layers.iter().try_fold(x.clone(), |x, (name, layer)| layer.forward_at(name, &x))
    }
}

impl Parameters for Sequential {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        for (name, layer) in &self.layers {
            layer.collect(&join(at, name), out);
        }
    }

    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        for (name, layer) in &mut self.layers {
            layer.collect_mut(&join(at, name), out);
        }
    }
}

impl fmt::Debug for Sequential {
    /// The names of the layers and the shapes of their parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, layer) in &self.layers {
            let shapes: Vec<(String, engine::Shape)> = layer
                .parameters()
                .into_iter()
                .map(|(path, p)| (path, *p.value().shape()))
                .collect();
            map.entry(name, &shapes);
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Rng, Tensor};

    use super::*;
    use crate::layer::{Linear, Relu};

    #[test]
    fn a_misfit_names_the_path_of_the_layer() {
        let rng = &mut Rng::new(0);
        let block = Sequential::new().then(Relu).named("query", Linear::new(64, 8, rng));
        let model = Sequential::new().then(Relu).named("encoder", block);
        let error = model.predict(&Tensor::zeros([2, 48], DType::F32)).unwrap_err();
        let expected = "encoder.query: linear: expected x [.., in], weight [out, in], bias [out], \
                        got [2, 48] and [8, 64] and [8]";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn no_layers_are_the_identity_and_layers_run_in_order() {
        let x = Tensor::from_slice(&[-1.0_f32, 3.0], [1, 2]).unwrap();
        assert_eq!(Sequential::new().predict(&x).unwrap().to_vec::<f32>().unwrap(), [-1.0, 3.0]);
        let rng = &mut Rng::new(5);
        let (a, b) = (Linear::new(2, 3, rng), Linear::new(3, 1, rng));
        let by_hand = b.predict(&Relu.predict(&a.predict(&x).unwrap()).unwrap()).unwrap();
        let model = Sequential::new().then(a).then(Relu).then(b);
        let got = model.predict(&x).unwrap();
        assert_eq!(got.to_vec::<f32>().unwrap(), by_hand.to_vec::<f32>().unwrap());
    }

    #[test]
    fn a_model_can_be_sent_to_another_thread_and_shared() {
        fn check<T: Send + Sync>(_: &T) {}
        check(&Sequential::new().then(Linear::new(1, 1, &mut Rng::new(0))));
    }
}
