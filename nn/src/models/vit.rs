//! ViT: an image as a sequence of patches. Dosovitskiy et al. 2021, "An Image is Worth 16×16 Words".
//!
//! ```text
//! x → patches (conv p×p /p) → class token in front → + positions → block × depth → norm
//!   → the class token → linear → logits
//!
//! block   n = x + attn(norm1(x)),   y = n + mlp(norm2(n)),   mlp = fc2(gelu(fc1(·)))
//! ```

use engine::{DType, Parameter, Result, Rng, Tensor, Var, parameters};

use super::{demand, normal_linear, window};
use crate::{Conv2d, LayerNorm, Linear, Module, QkvAttention, StochasticDepth};

/// The deviation of starting weights and positions.
const DEVIATION: f64 = 0.02;
/// ε of the norms.
const EPS: f64 = 1e-6;

/// The sizes of a [`Vit`]. `Default` is timm's `vit_tiny_patch16_224`.
///
/// # Example
/// ```
/// use alcyon_nn::models::VitConfig;
/// use engine::{Parameters, Rng};
/// let model = VitConfig::default().build(&mut Rng::new(0))?;
/// assert_eq!(model.parameter_count(), 5_717_416);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Height and width of the images, a multiple of the patch.
    pub image: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// The width of a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of each attention; they divide the width.
    pub heads: usize,
    /// Outputs.
    pub classes: usize,
    /// The probability that the last block is left out of an example, growing evenly from 0.
    pub stochastic_depth: f64,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            image: 224,
            patch: 16,
            width: 192,
            depth: 12,
            heads: 3,
            classes: 1000,
            stochastic_depth: 0.0,
        }
    }
}

impl VitConfig {
    /// The model: weights and positions from N(0, 0.02²), biases 0, patches as [`Conv2d`] starts.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0, the patch does not divide the image,
    /// the heads not the width, or the probability is outside 0 .. 1.
    pub fn build(&self, rng: &mut Rng) -> Result<Vit> {
        let Self { image, patch, width, depth, heads, classes, stochastic_depth } = *self;
        for (name, size) in [
            ("image", image),
            ("patch", patch),
            ("width", width),
            ("depth", depth),
            ("classes", classes),
        ] {
            demand("vit", name, size > 0, "at least 1", &size)?;
        }
        demand("vit", "patch", image.is_multiple_of(patch), "a divisor of the image", &patch)?;
        let share = (0.0..1.0).contains(&stochastic_depth);
        demand("vit", "stochastic_depth", share, "in 0 .. 1", &stochastic_depth)?;
        let patches = (image / patch).pow(2);
        let mut normal = |rows: usize, deviation: f64| {
            Parameter::new(Tensor::normal([1, rows, width], 0.0, deviation, DType::F32, rng))
        };
        let (cls_token, pos_embed) = (normal(1, 1e-6), normal(patches + 1, DEVIATION));
        let patch_embed = PatchEmbed { proj: Conv2d::new(3, width, window(patch, patch, 0), rng) };
        let block = |i: usize| -> Result<Block> {
            Ok(Block {
                norm1: norm(width),
                attn: QkvAttention::new(width, heads, rng)?,
                norm2: norm(width),
                mlp: FeedForward {
                    fc1: normal_linear(width, 4 * width, DEVIATION, rng),
                    fc2: normal_linear(4 * width, width, DEVIATION, rng),
                },
                stochastic_depth: StochasticDepth::growing(stochastic_depth, i, depth),
            })
        };
        let blocks = (0..depth).map(block).collect::<Result<_>>()?;
        let head = normal_linear(width, classes, DEVIATION, rng);
        Ok(Vit { cls_token, pos_embed, patch_embed, blocks, norm: norm(width), head })
    }
}

fn norm(width: usize) -> LayerNorm {
    LayerNorm { eps: EPS, ..LayerNorm::new(width) }
}

/// A vision transformer, with timm's names.
///
/// The class token and the positions are used outside layers: to an optimizer that takes curvature they
/// are parameters without factors.
///
/// # Shape
/// x: `[N, 3, image, image]` · result: `[N, classes]`
#[derive(Debug)]
pub struct Vit {
    /// `[1, 1, D]`, put before the patches.
    pub cls_token: Parameter,
    /// `[1, 1 + patches, D]`
    pub pos_embed: Parameter,
    /// From pixels to tokens.
    pub patch_embed: PatchEmbed,
    /// The blocks.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub norm: LayerNorm,
    /// The readout of the class token.
    pub head: Linear,
}
parameters!(Vit { cls_token, pos_embed, patch_embed, blocks, norm, head });

impl Module for Vit {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let patches = self.patch_embed.forward_at("patch_embed", x)?;
        let [examples, _, width] = **patches.shape() else { return Ok(patches) };
        let class = tape.bind(&self.cls_token).broadcast_to([examples, 1, width])?;
        let x = Var::concat(&[&class, &patches], 1)?;
        let mut x = x.add(&tape.bind(&self.pos_embed)).map_err(|e| e.in_layer("pos_embed"))?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward_at(&format!("blocks.{i}"), &x)?;
        }
        let class = x.narrow(1, 0, 1)?.reshape([examples, width])?;
        self.head.forward_at("head", &self.norm.forward_at("norm", &class)?)
    }
}

/// `[N, 3, H, W]` → `[N, patches, D]`: a linear map of every patch.
#[derive(Debug)]
pub struct PatchEmbed {
    /// A convolution whose windows touch and do not overlap.
    pub proj: Conv2d,
}
parameters!(PatchEmbed { proj });

impl Module for PatchEmbed {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.proj.forward_at("proj", x)?.flatten(2)?.transpose(1, 2)
    }
}

/// Attention and a feed-forward part, each of the normalised input and added to it.
#[derive(Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// What tokens take from each other.
    pub attn: QkvAttention,
    /// Before the feed-forward part.
    pub norm2: LayerNorm,
    /// What each token makes of it.
    pub mlp: FeedForward,
    /// At the end of both.
    pub stochastic_depth: StochasticDepth,
}
parameters!(Block { norm1, attn, norm2, mlp });

impl Module for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = self.attn.forward_at("attn", &self.norm1.forward_at("norm1", x)?)?;
        let x = x.add(&self.stochastic_depth.forward(&y)?)?;
        let y = self.mlp.forward_at("mlp", &self.norm2.forward_at("norm2", &x)?)?;
        x.add(&self.stochastic_depth.forward(&y)?)
    }
}

/// fc2(gelu(fc1(x))).
#[derive(Debug)]
pub struct FeedForward {
    /// `[4 D, D]`
    pub fc1: Linear,
    /// `[D, 4 D]`
    pub fc2: Linear,
}
parameters!(FeedForward { fc1, fc2 });

impl Module for FeedForward {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.fc2.forward_at("fc2", &self.fc1.forward_at("fc1", x)?.gelu()?)
    }
}

#[cfg(test)]
mod tests {
    use engine::Error;

    use super::*;

    fn tiny() -> VitConfig {
        VitConfig {
            image: 8,
            patch: 4,
            width: 6,
            depth: 2,
            heads: 2,
            classes: 3,
            ..Default::default()
        }
    }

    #[test]
    fn an_image_of_another_size_and_senseless_sizes_are_refused() {
        let model = tiny().build(&mut Rng::new(0)).unwrap();
        let error = model.predict(&Tensor::zeros([1, 3, 12, 12], DType::F32)).unwrap_err();
        assert!(error.to_string().starts_with("pos_embed: add: "), "{error}");
        for config in [
            VitConfig { patch: 3, ..tiny() },
            VitConfig { heads: 4, ..tiny() },
            VitConfig { classes: 0, ..tiny() },
            VitConfig { stochastic_depth: 1.0, ..tiny() },
        ] {
            assert!(matches!(config.build(&mut Rng::new(0)), Err(Error::Argument { .. })));
        }
    }

    #[test]
    fn without_positions_the_order_of_patches_does_not_matter() {
        let mut model = tiny().build(&mut Rng::new(0)).unwrap();
        let zeros = Tensor::zeros([1, 5, 6], DType::F32);
        *model.pos_embed.value_mut() = zeros;
        let x = Tensor::normal([2, 3, 8, 8], 0.0, 1.0, DType::F32, &mut Rng::new(1));
        // Shifted by one patch: each patch is as before, at another place.
        let moved = x.roll(&[4], &[3]).unwrap();
        let [y, z] = [&x, &moved].map(|x| model.predict(x).unwrap().to_vec::<f32>().unwrap());
        assert!(y.iter().zip(&z).all(|(y, z)| (y - z).abs() < 1e-5), "{y:?} {z:?}");
    }
}
