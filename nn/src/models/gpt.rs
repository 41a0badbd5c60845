//! GPT: a decoder whose norms come after each sum. Radford et al. 2018, "Improving Language Understanding
//! by Generative Pre-Training".
//!
//! ```text
//! tokens, positions → tables, added → dropout → block × layers → the table of tokens, transposed → logits
//!
//! block   n = ln_1(x + attention(x)),   y = ln_2(n + c_proj(gelu(c_fc(n))))
//! ```
//! The readout is tied to the table of tokens: one parameter, two layer records. There is no dropout of
//! attention weights, which the fused attention never holds.

use engine::ops::attention::AttentionMask;
use engine::{DType, Parameter, Result, Rng, Tensor, Var, parameters};

use super::{demand, normal_linear};
use crate::layer::attend;
use crate::{Dropout, Embedding, LayerNorm, Linear, Module};

/// The deviation of all starting weights.
pub(super) const DEVIATION: f64 = 0.02;

/// The sizes of a [`Gpt`] or [`Gpt2`](super::Gpt2). `Default` is GPT's: twelve layers 768 wide.
///
/// # Example
/// ```
/// use alcyon_nn::models::GptConfig;
/// use engine::{Parameters, Rng};
/// // The language model of the AdaFisher paper, arXiv 2405.16397, section D.3.2, with fewer words.
/// let config = GptConfig { vocabulary: 100, ..GptConfig::four_layers() };
/// assert_eq!(config.build(&mut Rng::new(0))?.parameter_count(), 28_351_488);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GptConfig {
    /// Tokens there are.
    pub vocabulary: usize,
    /// Positions there are: the longest input.
    pub context: usize,
    /// The width of the model.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of each attention; they divide the width.
    pub heads: usize,
    /// The probability of dropout, after the tables and at the end of each branch.
    pub dropout: f64,
    /// Whether the two tables are kept as they are (loaded from a file, say): they count as parameters that
    /// are not trainable then.
    pub frozen_tables: bool,
}

impl Default for GptConfig {
    fn default() -> Self {
        Self {
            vocabulary: 40_478,
            context: 512,
            width: 768,
            layers: 12,
            heads: 12,
            dropout: 0.1,
            frozen_tables: false,
        }
    }
}

impl GptConfig {
    /// GPT with four blocks and tables that are not trained, as in the AdaFisher paper. Its 28,351,488
    /// parameters are those of the blocks: each has 12 D² + 13 D = 7,087,872 for D = 768.
    #[must_use]
    pub fn four_layers() -> Self {
        Self { layers: 4, frozen_tables: true, ..Self::default() }
    }

    /// Hugging Face's `OpenAIGPTLMHeadModel`: weights from N(0, 0.02²), biases 0.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0, the heads do not divide the width, or
    /// the dropout is outside 0 .. 1.
    pub fn build(&self, rng: &mut Rng) -> Result<Gpt> {
        self.check("gpt")?;
        let (tokens_embed, positions_embed) = self.tables(rng);
        let block = |rng: &mut Rng| Block {
            attn: Attention::new(self, DEVIATION, rng),
            ln_1: LayerNorm::new(self.width),
            mlp: FeedForward::new(self, DEVIATION, rng),
            ln_2: LayerNorm::new(self.width),
        };
        let h = (0..self.layers).map(|_| block(rng)).collect();
        let transformer = Transformer { tokens_embed, positions_embed, h };
        Ok(Gpt { transformer, dropout: Dropout::new(self.dropout) })
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let Self { vocabulary, context, width, layers, heads, dropout, .. } = *self;
        for (name, size) in [
            ("vocabulary", vocabulary),
            ("context", context),
            ("width", width),
            ("layers", layers),
            ("heads", heads),
        ] {
            demand(op, name, size > 0, "at least 1", &size)?;
        }
        demand(op, "heads", width.is_multiple_of(heads), "a divisor of the width", &heads)?;
        demand(op, "dropout", (0.0..1.0).contains(&dropout), "in 0 .. 1", &dropout)
    }

    /// The tables of tokens and of positions.
    pub(super) fn tables(&self, rng: &mut Rng) -> (Embedding, Embedding) {
        let mut table = |rows: usize| {
            let rows = Tensor::normal([rows, self.width], 0.0, DEVIATION, DType::F32, rng);
            let mut weight = Parameter::new(rows);
            weight.set_trainable(!self.frozen_tables);
            Embedding { weight }
        };
        (table(self.vocabulary), table(self.context))
    }
}

/// A language model.
///
/// # Shape
/// tokens: `[N, T]` (i64, each in 0..V), T at most the context · result: `[N, T, V]`, at each position the
/// logits of the next token
///
/// # Example
/// ```
/// use alcyon_nn::{Module, models::GptConfig};
/// use engine::{Rng, Shape, Tensor};
/// let config =
///     GptConfig { vocabulary: 10, context: 8, width: 6, layers: 1, heads: 2, ..GptConfig::default() };
/// let model = config.build(&mut Rng::new(0))?;
/// let tokens = Tensor::from_slice(&[3_i64, 1, 4, 1, 5, 9], [2, 3])?;
/// assert_eq!(*model.predict(&tokens)?.shape(), Shape::from([2, 3, 10]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Gpt {
    /// All of it; the name is Hugging Face's.
    pub transformer: Transformer,
    /// After the tables.
    pub dropout: Dropout,
}
parameters!(Gpt { transformer });

/// The parts of a [`Gpt`].
#[derive(Debug)]
pub struct Transformer {
    /// A vector for each token, and the readout.
    pub tokens_embed: Embedding,
    /// A vector for each position.
    pub positions_embed: Embedding,
    /// The blocks.
    pub h: Vec<Block>,
}
parameters!(Transformer { tokens_embed, positions_embed, h });

impl Module for Gpt {
    fn forward(&self, tokens: &Var) -> Result<Var> {
        let Transformer { tokens_embed, positions_embed, h } = &self.transformer;
        let mut x = self.dropout.forward(&embed(tokens, tokens_embed, positions_embed)?)?;
        for (i, block) in h.iter().enumerate() {
            x = block.forward_at(&format!("transformer.h.{i}"), &x)?;
        }
        x.linear(&tokens.tape()?.bind(&tokens_embed.weight), None)
    }
}

/// The vectors of tokens and of their positions, added. Positions are looked up for every example, so that
/// a layer record has rows of each.
pub(super) fn embed(tokens: &Var, table: &Embedding, positions: &Embedding) -> Result<Var> {
    let [_, length] = **tokens.shape() else {
        return Err(engine::Error::shape("gpt", "tokens [N, T]", &[tokens.shape()]));
    };
    let places = Tensor::arange(length, DType::I64).to_device(tokens.device())?;
    let places = tokens.tape()?.input(places.broadcast_to(tokens.shape())?);
    let positions = positions.forward(&places).map_err(|e| e.in_layer("positions"))?;
    table.forward_at("tokens", tokens)?.add(&positions)
}

/// Attention and a feed-forward part, each added to its input and normalised.
#[derive(Debug)]
pub struct Block {
    /// What tokens take from earlier ones.
    pub attn: Attention,
    /// After its sum.
    pub ln_1: LayerNorm,
    /// What each token makes of it.
    pub mlp: FeedForward,
    /// After its sum.
    pub ln_2: LayerNorm,
}
parameters!(Block { attn, ln_1, mlp, ln_2 });

impl Module for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let x = self.ln_1.forward_at("ln_1", &self.attn.forward_at("attn", x)?.add(x)?)?;
        self.ln_2.forward_at("ln_2", &self.mlp.forward_at("mlp", &x)?.add(&x)?)
    }
}

/// Causal self-attention, with dropout at the end.
#[derive(Debug)]
pub struct Attention {
    /// To queries, keys and values, `[3 D, D]`.
    pub c_attn: Linear,
    /// From the heads, side by side, `[D, D]`.
    pub c_proj: Linear,
    heads: usize,
    dropout: Dropout,
}
parameters!(Attention { c_attn, c_proj });

impl Attention {
    /// `last` is the deviation of `c_proj`.
    pub(super) fn new(config: &GptConfig, last: f64, rng: &mut Rng) -> Self {
        let GptConfig { width, heads, dropout, .. } = *config;
        Self {
            c_attn: normal_linear(width, 3 * width, DEVIATION, rng),
            c_proj: normal_linear(width, width, last, rng),
            heads,
            dropout: Dropout::new(dropout),
        }
    }
}

impl Module for Attention {
    fn forward(&self, x: &Var) -> Result<Var> {
        let joined = self.c_attn.forward_at("c_attn", x)?;
        let y = attend(&joined, self.heads, AttentionMask::Causal)?;
        self.dropout.forward(&self.c_proj.forward_at("c_proj", &y)?)
    }
}

/// c_proj(gelu(c_fc(x))), four times as wide inside, with dropout at the end; gelu is the one with tanh.
#[derive(Debug)]
pub struct FeedForward {
    /// `[4 D, D]`
    pub c_fc: Linear,
    /// `[D, 4 D]`
    pub c_proj: Linear,
    dropout: Dropout,
}
parameters!(FeedForward { c_fc, c_proj });

impl FeedForward {
    /// `last` is the deviation of `c_proj`.
    pub(super) fn new(config: &GptConfig, last: f64, rng: &mut Rng) -> Self {
        Self {
            c_fc: normal_linear(config.width, 4 * config.width, DEVIATION, rng),
            c_proj: normal_linear(4 * config.width, config.width, last, rng),
            dropout: Dropout::new(config.dropout),
        }
    }
}

impl Module for FeedForward {
    fn forward(&self, x: &Var) -> Result<Var> {
        let inner = self.c_fc.forward_at("c_fc", x)?.gelu_tanh()?;
        self.dropout.forward(&self.c_proj.forward_at("c_proj", &inner)?)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, LayerRecord, Parameters, Tape};

    use super::*;

    fn tiny() -> GptConfig {
        GptConfig {
            vocabulary: 5,
            context: 4,
            width: 6,
            layers: 1,
            heads: 3,
            ..GptConfig::default()
        }
    }

    /// `sum(p.numel() for p in OpenAIGPTLMHeadModel(OpenAIGPTConfig()).parameters())` of transformers 5.23
    /// is 116,534,784, for twelve blocks; here are the tables and one block.
    #[test]
    fn tables_and_blocks_have_as_many_parameters_as_published() {
        let one = GptConfig { layers: 1, ..GptConfig::default() };
        let count = one.build(&mut Rng::new(0)).unwrap().parameter_count();
        let block = 28_351_488 / 4;
        assert_eq!(count + 11 * block, 116_534_784);
    }

    #[test]
    fn the_readout_is_the_table_and_leaves_a_second_record_of_it() {
        let model = tiny().build(&mut Rng::new(0)).unwrap();
        let tape = Tape::new();
        let tokens = tape.input(Tensor::from_slice(&[0_i64, 1, 2, 3, 4, 0], [2, 3]).unwrap());
        let loss = model.forward(&tokens).unwrap().square().unwrap().sum_all().unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        let grads = tape.backward_observed(&loss, &mut records).unwrap();
        assert_eq!(grads.len(), model.parameters().len());
        let table = model.transformer.tokens_embed.weight.id();
        assert_eq!(records.iter().filter(|record| record.weight == table).count(), 2);
    }

    #[test]
    fn an_input_beyond_the_context_and_senseless_sizes_are_refused() {
        let model = tiny().build(&mut Rng::new(0)).unwrap();
        let long = model.predict(&Tensor::zeros([1, 5], DType::I64)).unwrap_err();
        assert_eq!(
            long.to_string(),
            "positions: embedding: index 4 at position 4 is out of range 0..4"
        );
        let flat = model.predict(&Tensor::zeros([3], DType::I64));
        assert!(matches!(flat, Err(Error::Shape { op: "gpt", .. })));
        for config in [
            GptConfig { heads: 4, ..tiny() },
            GptConfig { heads: 0, ..tiny() },
            GptConfig { dropout: 1.0, ..tiny() },
            GptConfig { vocabulary: 0, ..tiny() },
        ] {
            let refused = config.build(&mut Rng::new(0));
            assert!(matches!(refused, Err(Error::Argument { op: "gpt", .. })), "{config:?}");
        }
    }
}
