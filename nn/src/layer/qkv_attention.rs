//! Multi-head self-attention as timm writes it: `qkv`, `proj`.

use engine::ops::attention::AttentionMask;
use engine::{DType, Error, Parameter, Result, Rng, Tensor, Var, parameters};

use super::attention::attend;
use crate::{Linear, Module};

/// Self-attention in several heads, every token seeing every other. The same function as
/// [`MultiHeadAttention`](crate::MultiHeadAttention), under the names and with the starting values of vision
/// transformers: weights from N(0, 0.02²), biases 0.
///
/// # Shape
/// qkv: `[3 D, D]` · proj: `[D, D]` · x: `[.., T, D]` · result: `[.., T, D]`
///
/// # Source
/// Vaswani et al. 2017, section 3.2.2; Dosovitskiy et al. 2021, appendix A.
#[derive(Debug)]
pub struct QkvAttention {
    /// To queries, keys and values, one after another.
    pub qkv: Linear,
    /// From the heads, side by side.
    pub proj: Linear,
    /// The number of heads.
    pub heads: usize,
}
parameters!(QkvAttention { qkv, proj });

impl QkvAttention {
    /// Attention of a width in some heads.
    ///
    /// # Errors
    /// [`Error::Argument`] when the width is not a multiple of the heads.
    pub fn new(width: usize, heads: usize, rng: &mut Rng) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(Error::Argument {
                op: "qkv_attention",
                name: "heads",
                expected: "at least 1 and a divisor of the width",
                got: format!("{heads} for width {width}"),
            });
        }
        let mut linear = |outputs: usize| Linear {
            weight: Parameter::new(Tensor::normal([outputs, width], 0.0, 0.02, DType::F32, rng)),
            bias: Some(Parameter::new(Tensor::zeros([outputs], DType::F32))),
        };
        Ok(Self { qkv: linear(3 * width), proj: linear(width), heads })
    }

    /// The same layer, queries, keys and values without a bias.
    #[must_use]
    pub fn without_qkv_bias(self) -> Self {
        Self { qkv: self.qkv.without_bias(), ..self }
    }
}

impl Module for QkvAttention {
    fn forward(&self, x: &Var) -> Result<Var> {
        let joined = self.qkv.forward_at("qkv", x)?;
        self.proj.forward_at("proj", &attend(&joined, self.heads, AttentionMask::None)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MultiHeadAttention;

    #[test]
    fn it_is_multi_head_attention_under_other_names() {
        let timm = QkvAttention::new(6, 3, &mut Rng::new(0)).unwrap();
        let mut torch = MultiHeadAttention::new(6, 3, &mut Rng::new(1)).unwrap();
        *torch.in_proj.weight.value_mut() = timm.qkv.weight.value().clone();
        *torch.out_proj.weight.value_mut() = timm.proj.weight.value().clone();
        let x = Tensor::normal([2, 4, 6], 0.0, 1.0, DType::F32, &mut Rng::new(2));
        let both =
            [timm.predict(&x), torch.predict(&x)].map(|y| y.unwrap().to_vec::<f32>().unwrap());
        assert_eq!(both[0], both[1]);
        for heads in [0, 4] {
            let refused = QkvAttention::new(6, heads, &mut Rng::new(0));
            assert!(matches!(refused, Err(Error::Argument { name: "heads", .. })));
        }
    }
}
