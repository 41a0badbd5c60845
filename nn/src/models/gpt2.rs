//! GPT-2: a decoder whose norms come before each branch. Radford et al. 2019, "Language Models are
//! Unsupervised Multitask Learners", section 2.3.
//!
//! ```text
//! tokens, positions → tables, added → dropout → block × layers → ln_f → the table of tokens → logits
//!
//! block   n = x + attention(ln_1(x)),   y = n + c_proj(gelu(c_fc(ln_2(n))))
//! ```
//! Weights at the ends of branches start smaller, by 1/√(2 layers). The readout is tied, and there is no
//! dropout of attention weights: as in `gpt.rs`.

use engine::{Result, Rng, Var, parameters};

use super::gpt::{Attention, DEVIATION, FeedForward, GptConfig, embed};
use crate::{Dropout, Embedding, LayerNorm, Module};

impl GptConfig {
    /// The sizes of the smallest GPT-2: 124,439,808 parameters.
    #[must_use]
    pub fn gpt2() -> Self {
        Self { vocabulary: 50_257, context: 1024, ..Self::default() }
    }

    /// Hugging Face's `GPT2LMHeadModel` of these sizes.
    ///
    /// # Errors
    /// As [`GptConfig::build`].
    pub fn build_gpt2(&self, rng: &mut Rng) -> Result<Gpt2> {
        self.check("gpt2")?;
        let (wte, wpe) = self.tables(rng);
        let last = DEVIATION / (2.0 * self.layers as f64).sqrt();
        let block = |rng: &mut Rng| Block {
            ln_1: LayerNorm::new(self.width),
            attn: Attention::new(self, last, rng),
            ln_2: LayerNorm::new(self.width),
            mlp: FeedForward::new(self, last, rng),
        };
        let h = (0..self.layers).map(|_| block(rng)).collect();
        let transformer = Transformer { wte, wpe, h, ln_f: LayerNorm::new(self.width) };
        Ok(Gpt2 { transformer, dropout: Dropout::new(self.dropout) })
    }
}

/// A language model.
///
/// # Shape
/// tokens: `[N, T]` (i64, each in 0..V), T at most the context · result: `[N, T, V]`, at each position the
/// logits of the next token
#[derive(Debug)]
pub struct Gpt2 {
    /// All of it; the name is Hugging Face's.
    pub transformer: Transformer,
    /// After the tables.
    pub dropout: Dropout,
}
parameters!(Gpt2 { transformer });

/// The parts of a [`Gpt2`].
#[derive(Debug)]
pub struct Transformer {
    /// A vector for each token, and the readout.
    pub wte: Embedding,
    /// A vector for each position.
    pub wpe: Embedding,
    /// The blocks.
    pub h: Vec<Block>,
    /// After the last of them.
    pub ln_f: LayerNorm,
}
parameters!(Transformer { wte, wpe, h, ln_f });

impl Module for Gpt2 {
    fn forward(&self, tokens: &Var) -> Result<Var> {
        let Transformer { wte, wpe, h, ln_f } = &self.transformer;
        let mut x = self.dropout.forward(&embed(tokens, wte, wpe)?)?;
        for (i, block) in h.iter().enumerate() {
            x = block.forward_at(&format!("transformer.h.{i}"), &x)?;
        }
        let x = ln_f.forward_at("transformer.ln_f", &x)?;
        x.linear(&tokens.tape()?.bind(&wte.weight), None)
    }
}

/// Attention and a feed-forward part, each of the normalised input and added to it.
#[derive(Debug)]
pub struct Block {
    /// Before attention.
    pub ln_1: LayerNorm,
    /// What tokens take from earlier ones.
    pub attn: Attention,
    /// Before the feed-forward part.
    pub ln_2: LayerNorm,
    /// What each token makes of it.
    pub mlp: FeedForward,
}
parameters!(Block { ln_1, attn, ln_2, mlp });

impl Module for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let x = self.attn.forward_at("attn", &self.ln_1.forward_at("ln_1", x)?)?.add(x)?;
        self.mlp.forward_at("mlp", &self.ln_2.forward_at("ln_2", &x)?)?.add(&x)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Parameters, Tensor};

    use super::*;

    /// Radford et al. 2019, table 2, says 117 M; the program that they published has 124,439,808, as has
    /// `GPT2LMHeadModel(GPT2Config())` of transformers 5.23. A block has 12 D² + 13 D.
    #[test]
    fn tables_and_blocks_have_as_many_parameters_as_published() {
        let one = GptConfig { layers: 1, ..GptConfig::gpt2() };
        let count = one.build_gpt2(&mut Rng::new(0)).unwrap().parameter_count();
        assert_eq!(count + 11 * 7_087_872, 124_439_808);
    }

    #[test]
    fn later_tokens_do_not_change_earlier_logits() {
        let config = GptConfig {
            vocabulary: 7,
            context: 4,
            width: 6,
            layers: 2,
            heads: 2,
            ..GptConfig::default()
        };
        let model = config.build_gpt2(&mut Rng::new(0)).unwrap();
        let tokens = |last: i64| Tensor::from_slice(&[1, 2, 3, last], [1, 4]).unwrap();
        let early = |last| {
            let y = model.predict(&tokens(last)).unwrap();
            assert_eq!(y.dtype(), DType::F32);
            y.narrow(1, 0, 3).unwrap().to_vec::<f32>().unwrap()
        };
        assert_eq!(early(4), early(5));
    }
}
