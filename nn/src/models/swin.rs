//! Swin: attention in windows that move from layer to layer, and fewer, wider pixels from stage to stage.
//! Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows".
//!
//! ```text
//! x → patches (conv p×p /p) → norm → stage → merging → stage → … → norm → mean over the image
//!   → linear → logits
//!
//! stage     n = x + attn(norm1(x)),   y = n + mlp(norm2(n));   every other block's windows are moved by half
//! merging   four neighbours side by side → norm → linear to twice the width
//! ```

use engine::compose::Padding;
use engine::{Error, Result, Rng, Var, parameters};

use super::{demand, normal_linear, window};
use crate::layer::{AdaptiveAvgPool2d, Flatten, Gelu, Sequential, StochasticDepth};
use crate::{Conv2d, LayerNorm, Linear, Module, WindowAttention};

/// The deviation of starting weights.
const DEVIATION: f64 = 0.02;

/// The sizes of a Swin transformer. `Default` is Swin-T, torchvision's `swin_t`.
///
/// # Shape
/// x: `[N, 3, H, W]` · result: `[N, classes]`
///
/// # Example
/// ```
/// use alcyon_nn::models::SwinConfig;
/// use engine::{Parameters, Rng};
/// let model = SwinConfig::default().build(&mut Rng::new(0))?;
/// assert_eq!(model.parameter_count(), 28_288_354);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SwinConfig {
    /// Height and width of a patch.
    pub patch: usize,
    /// The width of the first stage; each later one is twice as wide.
    pub width: usize,
    /// Blocks in each stage.
    pub depths: Vec<usize>,
    /// Heads in each stage; they divide its width.
    pub heads: Vec<usize>,
    /// Height and width of a window, in patches.
    pub window: usize,
    /// Outputs.
    pub classes: usize,
    /// The probability that the last block is left out of an example, growing evenly from 0.
    pub stochastic_depth: f64,
}

impl Default for SwinConfig {
    fn default() -> Self {
        Self {
            patch: 4,
            width: 96,
            depths: vec![2, 2, 6, 2],
            heads: vec![3, 6, 12, 24],
            window: 7,
            classes: 1000,
            stochastic_depth: 0.2,
        }
    }
}

impl SwinConfig {
    /// The model: weights from N(0, 0.02²), biases 0, patches as [`Conv2d`] starts.
    ///
    /// # Errors
    /// [`Error::Argument`] when a size is 0, stages differ in number, the heads do not divide a width, or the
    /// probability is outside 0 .. 1.
    pub fn build(&self, rng: &mut Rng) -> Result<Sequential> {
        self.check()?;
        let Self { patch, width, depths, heads, window: size, classes, stochastic_depth } = self;
        let patches = Conv2d::new(3, *width, window(*patch, *patch, 0), rng);
        let stem =
            Sequential::new().then(patches).then(Axes::ChannelsLast).then(LayerNorm::new(*width));
        let mut features = Sequential::new().then(stem);
        let (blocks, mut done, mut width) = (depths.iter().sum(), 0, *width);
        for (stage, (&depth, &heads)) in depths.iter().zip(heads).enumerate() {
            if stage > 0 {
                features = features.then(PatchMerging::new(width, rng));
                width *= 2;
            }
            let mut layers = Sequential::new();
            for i in 0..depth {
                let shift = if i % 2 == 0 { 0 } else { size / 2 };
                let attn = WindowAttention::new(width, heads, *size, shift, rng)?;
                let depth = StochasticDepth::growing(*stochastic_depth, done, blocks);
                layers = layers.then(Block::new(width, attn, depth, rng));
                done += 1;
            }
            features = features.then(layers);
        }
        Ok(Sequential::new()
            .named("features", features)
            .named("norm", LayerNorm::new(width))
            .named("permute", Axes::ChannelsFirst)
            .named("avgpool", AdaptiveAvgPool2d::new((1, 1)))
            .named("flatten", Flatten)
            .named("head", normal_linear(width, *classes, DEVIATION, rng)))
    }

    fn check(&self) -> Result<()> {
        for (name, size) in [
            ("patch", self.patch),
            ("width", self.width),
            ("window", self.window),
            ("classes", self.classes),
        ] {
            demand("swin", name, size > 0, "at least 1", &size)?;
        }
        let some = !self.depths.is_empty() && !self.depths.contains(&0);
        demand("swin", "depths", some, "at least 1 block in at least 1 stage", &self.depths)?;
        let fits = self.heads.len() == self.depths.len();
        demand("swin", "heads", fits, "a number for each stage", &self.heads)?;
        let share = (0.0..1.0).contains(&self.stochastic_depth);
        demand("swin", "stochastic_depth", share, "in 0 .. 1", &self.stochastic_depth)
    }
}

/// Where the channels stand.
#[derive(Debug, Clone, Copy)]
enum Axes {
    /// `[N, C, H, W]` → `[N, H, W, C]`
    ChannelsLast,
    /// `[N, H, W, C]` → `[N, C, H, W]`
    ChannelsFirst,
}
parameters!(Axes {});

impl Module for Axes {
    fn forward(&self, x: &Var) -> Result<Var> {
        match self {
            Self::ChannelsLast => x.permute(&[0, 2, 3, 1]),
            Self::ChannelsFirst => x.permute(&[0, 3, 1, 2]),
        }
    }
}

/// Attention and a feed-forward part, each of the normalised input and added to it.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn: WindowAttention,
    norm2: LayerNorm,
    /// `0`, a linear layer; `1`, gelu; `3`, a linear layer: the names count a dropout.
    mlp: Sequential,
    stochastic_depth: StochasticDepth,
}
parameters!(Block { norm1, attn, norm2, mlp });

impl Block {
    fn new(width: usize, attn: WindowAttention, depth: StochasticDepth, rng: &mut Rng) -> Self {
        let mlp = Sequential::new()
            .then(normal_linear(width, 4 * width, DEVIATION, rng))
            .then(Gelu)
            .named("3", normal_linear(4 * width, width, DEVIATION, rng));
        let (norm1, norm2) = (LayerNorm::new(width), LayerNorm::new(width));
        Self { norm1, attn, norm2, mlp, stochastic_depth: depth }
    }
}

impl Module for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = self.attn.forward_at("attn", &self.norm1.forward_at("norm1", x)?)?;
        let x = x.add(&self.stochastic_depth.forward(&y)?)?;
        let y = self.mlp.forward_at("mlp", &self.norm2.forward_at("norm2", &x)?)?;
        x.add(&self.stochastic_depth.forward(&y)?)
    }
}

/// `[N, H, W, C]` → `[N, H/2, W/2, 2 C]`; an odd side is padded with a zero.
#[derive(Debug)]
struct PatchMerging {
    reduction: Linear,
    norm: LayerNorm,
}
parameters!(PatchMerging { reduction, norm });

impl PatchMerging {
    fn new(width: usize, rng: &mut Rng) -> Self {
        let reduction = normal_linear(4 * width, 2 * width, DEVIATION, rng).without_bias();
        Self { reduction, norm: LayerNorm::new(4 * width) }
    }
}

impl Module for PatchMerging {
    fn forward(&self, x: &Var) -> Result<Var> {
        let [n, height, width, channels] = **x.shape() else {
            return Err(Error::shape("patch_merging", "[N, H, W, C]", &[x.shape()]));
        };
        let zero = Padding::Constant(0.0);
        let x = x.pad(1, 0, height % 2, zero)?.pad(2, 0, width % 2, zero)?;
        let (half_height, half_width) = (height.div_ceil(2), width.div_ceil(2));
        // Of four neighbours, the one below stands before the one to the right.
        let pairs = x.reshape([n, half_height, 2, half_width, 2, channels])?;
        let joined = pairs.permute(&[0, 1, 3, 4, 2, 5])?;
        let joined = joined.reshape([n, half_height, half_width, 4 * channels])?;
        self.reduction.forward_at("reduction", &self.norm.forward_at("norm", &joined)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_without_a_network_are_refused() {
        let good = SwinConfig::default;
        for config in [
            SwinConfig { window: 0, ..good() },
            SwinConfig { depths: vec![], heads: vec![], ..good() },
            SwinConfig { heads: vec![3, 6], ..good() },
            SwinConfig { heads: vec![5, 6, 12, 24], ..good() },
            SwinConfig { stochastic_depth: 1.0, ..good() },
        ] {
            assert!(matches!(config.build(&mut Rng::new(0)), Err(Error::Argument { .. })));
        }
    }
}
