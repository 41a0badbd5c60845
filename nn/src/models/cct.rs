//! CCT: tokens from convolutions, pooled by attention in place of a class token. Hassani et al. 2021,
//! "Escaping the Big Data Paradigm with Compact Transformers".
//!
//! ```text
//! x → (conv 3×3 → relu → max pool 3 /2) × n → tokens → + positions → dropout → block × layers → norm
//!   → Σ softmax(attention_pool(token)) · token → linear → logits
//!
//! block   n = norm1(x + self_attn(pre_norm(x))),   y = n + linear2(gelu(linear1(n)))
//! ```
//! CCT-L/K×n has L blocks and n convolutions of K × K. There is no dropout of attention weights, which the
//! fused attention never holds.

use engine::{DType, Parameter, Result, Rng, Tensor, Var, parameters};

use super::{demand, fan_in_convolution, normal_linear, window};
use crate::layer::{MaxPool2d, Relu, Sequential};
use crate::{Dropout, LayerNorm, Linear, Module, QkvAttention, StochasticDepth};

/// The sizes of a [`Cct`]. `Default` is CCT-2/3×2 for 32 × 32 pixels, `cct_2_3x2_32` of the authors'
/// program.
#[derive(Debug, Clone, PartialEq)]
pub struct CctConfig {
    /// Height and width of the images.
    pub image: usize,
    /// The channels between the convolutions of the tokenizer: one convolution more than there are numbers.
    pub tokenizer: Vec<usize>,
    /// The width of a token.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of each attention; they divide the width.
    pub heads: usize,
    /// The width inside the feed-forward parts.
    pub feed_forward: usize,
    /// Outputs.
    pub classes: usize,
    /// The probability of dropout of positions and in the blocks.
    pub dropout: f64,
    /// The probability that the last block is left out of an example, growing evenly from 0.
    pub stochastic_depth: f64,
}

impl Default for CctConfig {
    fn default() -> Self {
        Self {
            image: 32,
            tokenizer: vec![64],
            width: 128,
            layers: 2,
            heads: 2,
            feed_forward: 128,
            classes: 10,
            dropout: 0.0,
            stochastic_depth: 0.1,
        }
    }
}

impl CctConfig {
    /// The model: convolutions from N(0, 2 / fan_in), linear layers from N(0, 0.02²), positions from
    /// N(0, 0.2²), biases 0.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0, the heads do not divide the width, or a
    /// probability is outside 0 .. 1.
    pub fn build(&self, rng: &mut Rng) -> Result<Cct> {
        self.check()?;
        let (mut conv_layers, mut inputs, mut side) = (Sequential::new(), 3, self.image);
        for &outputs in self.tokenizer.iter().chain([&self.width]) {
            let stage = Sequential::new()
                .then(fan_in_convolution(inputs, outputs, window(3, 1, 1), rng))
                .then(Relu)
                .then(MaxPool2d { window: window(3, 2, 1) });
            (conv_layers, inputs, side) = (conv_layers.then(stage), outputs, side.div_ceil(2));
        }
        let shape = [1, side * side, self.width];
        let positional_emb = Parameter::new(Tensor::normal(shape, 0.0, 0.2, DType::F32, rng));
        let attention_pool = normal_linear(self.width, 1, 0.02, rng);
        let blocks = (0..self.layers).map(|i| Block::new(i, self, rng)).collect::<Result<_>>()?;
        let (norm, fc) =
            (LayerNorm::new(self.width), normal_linear(self.width, self.classes, 0.02, rng));
        let dropout = Dropout::new(self.dropout);
        let classifier = Classifier { positional_emb, attention_pool, blocks, norm, fc, dropout };
        Ok(Cct { tokenizer: Tokenizer { conv_layers }, classifier })
    }

    fn check(&self) -> Result<()> {
        for (name, size) in [
            ("image", self.image),
            ("width", self.width),
            ("layers", self.layers),
            ("feed_forward", self.feed_forward),
            ("classes", self.classes),
        ] {
            demand("cct", name, size > 0, "at least 1", &size)?;
        }
        let widths = !self.tokenizer.contains(&0);
        demand("cct", "tokenizer", widths, "at least 1 channel each", &self.tokenizer)?;
        for (name, share) in
            [("dropout", self.dropout), ("stochastic_depth", self.stochastic_depth)]
        {
            demand("cct", name, (0.0..1.0).contains(&share), "in 0 .. 1", &share)?;
        }
        Ok(())
    }
}

/// A compact convolutional transformer, with the authors' names.
///
/// The positions are used outside layers: to an optimizer that takes curvature they are a parameter
/// without factors.
///
/// # Shape
/// x: `[N, 3, image, image]` · result: `[N, classes]`
///
/// # Example
/// ```
/// use alcyon_nn::{Module, models::CctConfig};
/// use engine::{DType, Rng, Shape, Tensor};
/// let model = CctConfig::default().build(&mut Rng::new(0))?;
/// let y = model.predict(&Tensor::zeros([1, 3, 32, 32], DType::F32))?;
/// assert_eq!(*y.shape(), Shape::from([1, 10]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Cct {
    /// From pixels to tokens.
    pub tokenizer: Tokenizer,
    /// From tokens to logits.
    pub classifier: Classifier,
}
parameters!(Cct { tokenizer, classifier });

impl Module for Cct {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.classifier.forward_at("classifier", &self.tokenizer.forward_at("tokenizer", x)?)
    }
}

/// `[N, 3, H, W]` → `[N, T, D]`.
#[derive(Debug)]
pub struct Tokenizer {
    /// Each a convolution, a relu and a pooling.
    pub conv_layers: Sequential,
}
parameters!(Tokenizer { conv_layers });

impl Module for Tokenizer {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.conv_layers.forward_at("conv_layers", x)?.flatten(2)?.transpose(1, 2)
    }
}

/// `[N, T, D]` → `[N, classes]`.
#[derive(Debug)]
pub struct Classifier {
    /// `[1, T, D]`
    pub positional_emb: Parameter,
    /// The score of a token in the pooling, `[1, D]`.
    pub attention_pool: Linear,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub norm: LayerNorm,
    /// The readout.
    pub fc: Linear,
    /// After the positions.
    pub dropout: Dropout,
}
parameters!(Classifier { positional_emb, attention_pool, blocks, norm, fc });

impl Module for Classifier {
    fn forward(&self, x: &Var) -> Result<Var> {
        let positions = x.tape()?.bind(&self.positional_emb);
        let x = x.add(&positions).map_err(|e| e.in_layer("positional_emb"))?;
        let mut x = self.dropout.forward(&x)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward_at(&format!("blocks.{i}"), &x)?;
        }
        let x = self.norm.forward_at("norm", &x)?;
        let weights = self.attention_pool.forward_at("attention_pool", &x)?.softmax(1)?;
        let pooled = weights.transpose(1, 2)?.matmul(&x)?;
        self.fc.forward_at("fc", &pooled.flatten(1)?)
    }
}

/// Attention and a feed-forward part, with a norm before the first and one between them.
#[derive(Debug)]
pub struct Block {
    /// Before attention.
    pub pre_norm: LayerNorm,
    /// What tokens take from each other; queries, keys and values have no bias.
    pub self_attn: QkvAttention,
    /// Into the feed-forward part.
    pub linear1: Linear,
    /// Between attention's sum and the feed-forward part.
    pub norm1: LayerNorm,
    /// Out of the feed-forward part.
    pub linear2: Linear,
    /// After attention, and twice in the feed-forward part.
    pub dropout: Dropout,
    /// At the end of both branches.
    pub stochastic_depth: StochasticDepth,
}
parameters!(Block { pre_norm, self_attn, linear1, norm1, linear2 });

impl Block {
    fn new(i: usize, config: &CctConfig, rng: &mut Rng) -> Result<Self> {
        let CctConfig { width, layers, heads, feed_forward, .. } = *config;
        Ok(Self {
            pre_norm: LayerNorm::new(width),
            self_attn: QkvAttention::new(width, heads, rng)?.without_qkv_bias(),
            linear1: normal_linear(width, feed_forward, 0.02, rng),
            norm1: LayerNorm::new(width),
            linear2: normal_linear(feed_forward, width, 0.02, rng),
            dropout: Dropout::new(config.dropout),
            stochastic_depth: StochasticDepth::growing(config.stochastic_depth, i, layers),
        })
    }
}

impl Module for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y =
            self.self_attn.forward_at("self_attn", &self.pre_norm.forward_at("pre_norm", x)?)?;
        let y = self.stochastic_depth.forward(&self.dropout.forward(&y)?)?;
        let x = self.norm1.forward_at("norm1", &x.add(&y)?)?;
        let y = self.dropout.forward(&self.linear1.forward_at("linear1", &x)?.gelu()?)?;
        let y = self.dropout.forward(&self.linear2.forward_at("linear2", &y)?)?;
        x.add(&self.stochastic_depth.forward(&y)?)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Parameters};

    use super::*;

    /// 0.28 M: Hassani et al. 2021, table 1. In full, by hand: the convolutions, the positions, two blocks,
    /// the pooling with the last norm, and the readout.
    #[test]
    fn parameters_are_as_many_as_published() {
        let count = CctConfig::default().build(&mut Rng::new(0)).unwrap().parameter_count();
        let d = 128;
        let convolutions = 9 * (3 * 64 + 64 * d);
        let block = 2 * 2 * d + (3 * d * d) + (d * d + d) + 2 * (d * d + d);
        assert_eq!(count, convolutions + 64 * d + 2 * block + (d + 1) + 2 * d + (d + 1) * 10);
        assert_eq!((count + 5_000) / 10_000, 28);
    }

    #[test]
    fn an_image_of_another_size_and_senseless_sizes_are_refused() {
        let model = CctConfig::default().build(&mut Rng::new(0)).unwrap();
        let error = model.predict(&Tensor::zeros([1, 3, 16, 16], DType::F32)).unwrap_err();
        assert!(error.to_string().starts_with("classifier.positional_emb: add: "), "{error}");
        for config in [
            CctConfig { image: 0, ..CctConfig::default() },
            CctConfig { heads: 3, ..CctConfig::default() },
            CctConfig { tokenizer: vec![0], ..CctConfig::default() },
            CctConfig { dropout: 1.0, ..CctConfig::default() },
        ] {
            assert!(matches!(config.build(&mut Rng::new(0)), Err(Error::Argument { .. })));
        }
    }
}
