//! Multi-head self-attention: one projection to queries, keys and values, attention, one projection.

use engine::ops::attention::AttentionMask;
use engine::{DType, Error, Parameter, Result, Rng, Tensor, Var, parameters};

use crate::{Linear, Module, init};

/// Self-attention in several heads of width D / heads, with scores scaled by 1/√(D / heads).
///
/// Two linear layers and one attention op: three records on the tape, of which two are layers. The
/// rows of `in_proj` are those of queries, keys and values, one after another, as in PyTorch, where
/// its parameters are called `in_proj_weight` and `in_proj_bias`; `out_proj` has the same name.
///
/// # Shape
/// in_proj: `[3 D, D]` · out_proj: `[D, D]` · x: `[.., T, D]` · result: `[.., T, D]`
///
/// # Source
/// Vaswani et al. 2017, section 3.2.2.
///
/// # Example
/// ```
/// use alcyon_nn::{Module, MultiHeadAttention};
/// use engine::{DType, Rng, Shape, Tensor};
/// let attention = MultiHeadAttention::new(8, 2, &mut Rng::new(0))?.causal();
/// let x = Tensor::normal([3, 5, 8], 0.0, 1.0, DType::F32, &mut Rng::new(1));
/// let y = attention.predict(&x)?;
/// assert_eq!(*y.shape(), Shape::from([3, 5, 8]));
/// // The first token sees only itself: later ones do not change it.
/// let alone = attention.predict(&x.narrow(1, 0, 1)?)?.to_vec::<f32>()?;
/// let first = y.narrow(1, 0, 1)?.to_vec::<f32>()?;
/// assert!(first.iter().zip(alone).all(|(a, b)| (a - b).abs() < 1e-6));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct MultiHeadAttention {
    /// To queries, keys and values.
    pub in_proj: Linear,
    /// From the heads, side by side.
    pub out_proj: Linear,
    /// The number of heads.
    pub heads: usize,
    /// Which keys a query sees.
    pub mask: AttentionMask,
}
parameters!(MultiHeadAttention { in_proj, out_proj });

impl MultiHeadAttention {
    /// Every query sees every key. `in_proj` starts Xavier-uniform, `out_proj` as [`Linear`] does, the
    /// biases at 0, as PyTorch's do.
    ///
    /// # Errors
    /// [`Error::Argument`] when the width is not a multiple of the heads.
    pub fn new(width: usize, heads: usize, rng: &mut Rng) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(Error::Argument {
                op: "multi_head_attention",
                name: "heads",
                expected: "at least 1 and a divisor of the width",
                got: format!("{heads} for width {width}"),
            });
        }
        let zeros = |n: usize| Some(Parameter::new(Tensor::zeros([n], DType::F32)));
        let weight = Parameter::new(init::xavier_uniform([3 * width, width], 1.0, rng));
        let in_proj = Linear { weight, bias: zeros(3 * width) };
        let out_proj = Linear { bias: zeros(width), ..Linear::new(width, width, rng) };
        Ok(Self { in_proj, out_proj, heads, mask: AttentionMask::None })
    }

    /// The same layer, in which a token sees itself and what came before.
    #[must_use]
    pub fn causal(self) -> Self {
        Self { mask: AttentionMask::Causal, ..self }
    }
}

impl Module for MultiHeadAttention {
    fn forward(&self, x: &Var) -> Result<Var> {
        if x.rank() < 2 {
            return Err(Error::shape("multi_head_attention", "[.., T, D]", &[x.shape()]));
        }
        let joined = self.in_proj.forward_at("in_proj", x)?;
        self.out_proj.forward_at("out_proj", &attend(&joined, self.heads, self.mask)?)
    }
}

/// Attention of each head with its own columns, scores scaled by 1/√(D / heads).
///
/// # Shape
/// joined: `[.., T, 3 D]`, queries, keys and values side by side · result: `[.., T, D]`, the heads side by
/// side
///
/// # Errors
/// [`Error::Argument`] or [`Error::Shape`] when the width is not 3 D, or the heads do not divide D.
pub fn attend(joined: &Var, heads: usize, mask: AttentionMask) -> Result<Var> {
    let parts = joined.chunk(3, -1)?;
    let split: Vec<Var> = parts.iter().map(|part| split(part, heads)).collect::<Result<_>>()?;
    let [q, k, v] = &split[..] else { return Ok(joined.clone()) };
    let scale = 1.0 / (q.size(-1)? as f64).sqrt();
    q.attention(k, v, mask, scale)?.transpose(-3, -2)?.reshape(parts[0].shape())
}

/// `[.., T, D]` as `[.., heads, T, D / heads]`.
fn split(x: &Var, heads: usize) -> Result<Var> {
    let [lead @ .., width] = &**x.shape() else { return Ok(x.clone()) };
    let dims = [lead, &[heads, width.checked_div(heads).unwrap_or(0)]].concat();
    x.reshape(engine::Shape::new(&dims)?)?.transpose(-3, -2)
}

#[cfg(test)]
mod tests {
    use engine::{LayerRecord, Parameters, Tape};

    use super::*;

    fn close(a: &Tensor, b: &Tensor) {
        let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
    }

    #[test]
    fn every_head_attends_with_its_own_columns() {
        let layer = MultiHeadAttention::new(6, 3, &mut Rng::new(0)).unwrap();
        let x = Tensor::normal([2, 4, 6], 0.0, 1.0, DType::F32, &mut Rng::new(1));
        let joined = layer.in_proj.predict(&x).unwrap();
        let mut heads = Vec::new();
        for h in 0..3 {
            let part = |i: usize| joined.narrow(2, 6 * i + 2 * h, 2).unwrap();
            let scores = part(0).matmul(&part(1).transpose(1, 2).unwrap()).unwrap();
            let weights = scores.scale(0.5_f64.sqrt()).unwrap().softmax(-1).unwrap();
            heads.push(weights.matmul(&part(2)).unwrap());
        }
        let joined = Tensor::concat(&heads.iter().collect::<Vec<_>>(), 2).unwrap();
        close(&layer.predict(&x).unwrap(), &layer.out_proj.predict(&joined).unwrap());
    }

    #[test]
    fn without_a_mask_the_order_of_tokens_does_not_matter() {
        let layer = MultiHeadAttention::new(4, 2, &mut Rng::new(0)).unwrap();
        let x = Tensor::normal([5, 4], 0.0, 1.0, DType::F32, &mut Rng::new(1));
        let order = Tensor::from_slice(&[3_i64, 0, 4, 1, 2], [5]).unwrap();
        let moved = layer.predict(&x.gather(0, &order).unwrap()).unwrap();
        close(&moved, &layer.predict(&x).unwrap().gather(0, &order).unwrap());
    }

    #[test]
    fn its_parameters_are_all_seen_in_two_layer_records() {
        let layer = MultiHeadAttention::new(4, 2, &mut Rng::new(0)).unwrap().causal();
        let tape = Tape::new();
        let x = tape.input(Tensor::ones([2, 3, 4], DType::F32));
        let loss = layer.forward(&x).unwrap().sum_all().unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        let grads = tape.backward_observed(&loss, &mut records).unwrap();
        assert_eq!((records.len(), grads.len(), layer.parameters().len()), (2, 4, 4));
        assert_eq!(layer.parameters()[0].0, "in_proj.weight");
    }

    #[test]
    fn heads_that_do_not_divide_the_width_and_lone_vectors_are_refused() {
        for heads in [0, 3] {
            let got = MultiHeadAttention::new(4, heads, &mut Rng::new(0));
            assert!(matches!(got, Err(Error::Argument { name: "heads", .. })));
        }
        let layer = MultiHeadAttention::new(4, 2, &mut Rng::new(0)).unwrap();
        let lone = layer.predict(&Tensor::ones([4], DType::F32));
        assert!(matches!(lone, Err(Error::Shape { op: "multi_head_attention", .. })));
        let narrow = layer.predict(&Tensor::ones([2, 3], DType::F32)).unwrap_err();
        assert!(narrow.to_string().starts_with("in_proj: linear: "), "{narrow}");
    }
}
