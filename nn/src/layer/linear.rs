//! y = x Wᵀ + b.

use engine::{Parameter, Result, Rng, Var, parameters};

use crate::{Module, init};

/// The affine map over the last axis.
///
/// # Shape
/// weight: `[out, in]` · bias: `[out]` · x: `[.., in]` · result: `[.., out]`
///
/// # Example
/// ```
/// use alcyon_nn::{Linear, Module};
/// use engine::{DType, Parameter, Rng, Tensor};
/// let mut layer = Linear::new(2, 1, &mut Rng::new(0));
/// layer.weight = Parameter::new(Tensor::from_slice(&[3.0_f32, -1.0], [1, 2])?);
/// layer.bias = Some(Parameter::new(Tensor::from_slice(&[0.5_f32], [1])?));
/// let y = layer.predict(&Tensor::from_slice(&[2.0_f32, 4.0], [1, 2])?)?;
/// assert_eq!(y.item()?, 3.0 * 2.0 - 4.0 + 0.5);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Parameter,
    /// `[out]`, if there is one.
    pub bias: Option<Parameter>,
}
parameters!(Linear { weight, bias });

impl Linear {
    /// A layer with a bias; both start as U(−1/√in, 1/√in).
    #[must_use]
    pub fn new(inputs: usize, outputs: usize, rng: &mut Rng) -> Self {
        let (weight, bias) = init::weight_and_bias([outputs, inputs], outputs, rng);
        Self { weight, bias: Some(bias) }
    }

    /// The same layer without a bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let bias = self.bias.as_ref().map(|b| tape.bind(b));
        x.linear(&tape.bind(&self.weight), bias.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, LayerRecord, Parameters, Shape, Tape, Tensor};

    use super::*;

    #[test]
    fn weight_and_bias_start_within_one_over_the_root_of_the_inputs() {
        let layer = Linear::new(100, 50, &mut Rng::new(0));
        let bias = layer.bias.as_ref().unwrap();
        assert_eq!(*layer.weight.value().shape(), Shape::from([50, 100]));
        assert_eq!(*bias.value().shape(), Shape::from([50]));
        for value in [layer.weight.value(), bias.value()] {
            let x = value.to_f64_vec().unwrap();
            let largest = x.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
            assert!(largest <= 0.1 && largest > 0.08, "{largest}");
        }
        assert_eq!(layer.parameter_count(), 50 * 101);
        assert_eq!(layer.without_bias().parameter_count(), 50 * 100);
    }

    #[test]
    fn a_layer_used_twice_leaves_two_records_of_one_weight() {
        let layer = Linear::new(3, 3, &mut Rng::new(0));
        let tape = Tape::new();
        let x = tape.input(Tensor::ones([2, 3], DType::F32));
        let y = layer.forward(&layer.forward(&x).unwrap()).unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        let grads = tape.backward_observed(&y.sum_all().unwrap(), &mut records).unwrap();
        assert_eq!(grads.len(), 2);
        assert_eq!(records.len(), 2);
        assert!(records.iter().all(|r| r.weight == layer.weight.id()));
    }
}
