//! FocalNet: in place of attention, each pixel is multiplied by its surroundings, seen at growing ranges.
//! Yang et al. 2022, "Focal Modulation Networks".
//!
//! ```text
//! x → patches (conv 4×4 /4, norm) → stage → conv 2×2 /2, norm → stage → … → norm → mean over the image
//!   → linear → logits
//!
//! block        n = x + modulation(norm1(x)),   y = n + mlp(norm2(n)),   mlp = fc2(gelu(fc1(·)))
//! modulation   q, z, gates = f(x);   z_l = gelu(depthwise conv(z_l-1)),   z_L+1 = gelu(mean over the image)
//!              proj(q ∘ h(Σ gates_l ∘ z_l))                                    eq. 5 to 7
//! ```
//! The depthwise convolutions of level l are as large as the first window and 2 (l − 1) more. FocalNet-T has
//! two levels in its SRF variant (small receptive field), three in its LRF variant. All is `[N, C, H, W]`, as in
//! timm; there linear maps of pixels are convolutions of 1 × 1.

use engine::{DType, Geometry, Parameter, Result, Rng, Tensor, Var, Window, parameters};

use super::{demand, normal_linear, window};
use crate::layer::{AdaptiveAvgPool2d, Flatten, Gelu, Sequential, StochasticDepth};
use crate::{Conv2d, LayerNorm2d, Module};

/// The deviation of starting weights.
const DEVIATION: f64 = 0.02;

/// The sizes of a focal modulation network. `Default` is FocalNet-T (SRF), timm's `focalnet_tiny_srf`.
///
/// # Shape
/// x: `[N, 3, H, W]` · result: `[N, classes]`
#[derive(Debug, Clone, PartialEq)]
pub struct FocalNetConfig {
    /// The width of the first stage; each later one is twice as wide.
    pub width: usize,
    /// Blocks in each stage.
    pub depths: Vec<usize>,
    /// Levels of surroundings in each stage, the whole image not counted.
    pub levels: Vec<usize>,
    /// The size of the first level's convolutions; odd.
    pub window: usize,
    /// Outputs.
    pub classes: usize,
    /// The probability that the last block is left out of an example, growing evenly from 0.
    pub stochastic_depth: f64,
}

impl Default for FocalNetConfig {
    fn default() -> Self {
        Self {
            width: 96,
            depths: vec![2, 2, 6, 2],
            levels: vec![2; 4],
            window: 3,
            classes: 1000,
            stochastic_depth: 0.1,
        }
    }
}

impl FocalNetConfig {
    /// FocalNet-T (LRF), timm's `focalnet_tiny_lrf`.
    #[must_use]
    pub fn tiny_lrf() -> Self {
        Self { levels: vec![3; 4], ..Self::default() }
    }

    /// The model: weights from N(0, 0.02²), biases 0.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0, stages differ in number, the window is
    /// even, or the probability is outside 0 .. 1.
    pub fn build(&self, rng: &mut Rng) -> Result<Sequential> {
        self.check()?;
        let (mut layers, mut done) = (Sequential::new(), 0);
        let (total, mut width) = (self.depths.iter().sum(), self.width);
        let stem = shrinking(3, width, 4, rng);
        for (stage, (&depth, &levels)) in self.depths.iter().zip(&self.levels).enumerate() {
            let mut parts = Sequential::new();
            if stage > 0 {
                parts = parts.named("downsample", shrinking(width, 2 * width, 2, rng));
                width *= 2;
            }
            let mut blocks = Sequential::new();
            for _ in 0..depth {
                let depth = StochasticDepth::growing(self.stochastic_depth, done, total);
                blocks = blocks.then(Block::new(width, levels, self.window, depth, rng));
                done += 1;
            }
            layers = layers.then(parts.named("blocks", blocks));
        }
        let fc = normal_linear(width, self.classes, DEVIATION, rng);
        let head = Sequential::new()
            .named("global_pool", AdaptiveAvgPool2d::new((1, 1)))
            .named("flatten", Flatten)
            .named("fc", fc);
        Ok(Sequential::new()
            .named("stem", stem)
            .named("layers", layers)
            .named("norm", LayerNorm2d::new(width))
            .named("head", head))
    }

    fn check(&self) -> Result<()> {
        for (name, size) in [("width", self.width), ("classes", self.classes)] {
            demand("focalnet", name, size > 0, "at least 1", &size)?;
        }
        let some = !self.depths.is_empty() && !self.depths.contains(&0);
        demand("focalnet", "depths", some, "at least 1 block in at least 1 stage", &self.depths)?;
        let fits = self.levels.len() == self.depths.len();
        demand("focalnet", "levels", fits, "a number for each stage", &self.levels)?;
        demand("focalnet", "window", self.window % 2 == 1, "odd", &self.window)?;
        let share = (0.0..1.0).contains(&self.stochastic_depth);
        demand("focalnet", "stochastic_depth", share, "in 0 .. 1", &self.stochastic_depth)
    }
}

/// A convolution with a bias, from N(0, 0.02²).
fn convolution(
    inputs: usize,
    outputs: usize,
    window: Window,
    groups: usize,
    rng: &mut Rng,
) -> Conv2d {
    let shape = [outputs, inputs / groups, window.kernel.0, window.kernel.1];
    let weight = Parameter::new(Tensor::normal(shape, 0.0, DEVIATION, DType::F32, rng));
    let bias = Some(Parameter::new(Tensor::zeros([outputs], DType::F32)));
    Conv2d { weight, bias, geometry: Geometry { window, groups } }
}

/// A linear map of each pixel.
fn pointwise(inputs: usize, outputs: usize, rng: &mut Rng) -> Conv2d {
    convolution(inputs, outputs, window(1, 1, 0), 1, rng)
}

/// An image `by` times smaller, and normalised.
fn shrinking(inputs: usize, outputs: usize, by: usize, rng: &mut Rng) -> Sequential {
    Sequential::new()
        .named("proj", convolution(inputs, outputs, window(by, by, 0), 1, rng))
        .named("norm", LayerNorm2d::new(outputs))
}

/// Modulation and a feed-forward part, each of the normalised input and added to it.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm2d,
    modulation: FocalModulation,
    norm2: LayerNorm2d,
    mlp: Sequential,
    stochastic_depth: StochasticDepth,
}
parameters!(Block { norm1, modulation, norm2, mlp });

impl Block {
    fn new(
        width: usize,
        levels: usize,
        window: usize,
        stochastic_depth: StochasticDepth,
        rng: &mut Rng,
    ) -> Self {
        let modulation = FocalModulation::new(width, levels, window, rng);
        let mlp = Sequential::new()
            .named("fc1", pointwise(width, 4 * width, rng))
            .named("act", Gelu)
            .named("fc2", pointwise(4 * width, width, rng));
        let (norm1, norm2) = (LayerNorm2d::new(width), LayerNorm2d::new(width));
        Self { norm1, modulation, norm2, mlp, stochastic_depth }
    }
}

impl Module for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = self.modulation.forward_at("modulation", &self.norm1.forward_at("norm1", x)?)?;
        let x = x.add(&self.stochastic_depth.forward(&y)?)?;
        let y = self.mlp.forward_at("mlp", &self.norm2.forward_at("norm2", &x)?)?;
        x.add(&self.stochastic_depth.forward(&y)?)
    }
}

/// proj(q ∘ h(context)): see the module's head.
#[derive(Debug)]
struct FocalModulation {
    f: Conv2d,
    h: Conv2d,
    proj: Conv2d,
    focal_layers: Vec<Sequential>,
}
parameters!(FocalModulation { f, h, proj, focal_layers });

impl FocalModulation {
    fn new(width: usize, levels: usize, size: usize, rng: &mut Rng) -> Self {
        let level = |l: usize, rng: &mut Rng| {
            let size = size + 2 * l;
            let depthwise = convolution(width, width, window(size, 1, size / 2), width, rng);
            Sequential::new().then(depthwise.without_bias()).then(Gelu)
        };
        Self {
            f: pointwise(width, 2 * width + levels + 1, rng),
            h: pointwise(width, width, rng),
            proj: pointwise(width, width, rng),
            focal_layers: (0..levels).map(|l| level(l, rng)).collect(),
        }
    }
}

impl Module for FocalModulation {
    fn forward(&self, x: &Var) -> Result<Var> {
        let levels = self.focal_layers.len();
        let width = x.size(1)?;
        let parts = self.f.forward_at("f", x)?.split(&[width, width, levels + 1], 1)?;
        let [query, near, gates] = &parts[..] else { return Ok(x.clone()) };
        let (mut near, mut context) = (near.clone(), None::<Var>);
        for (l, layer) in self.focal_layers.iter().enumerate() {
            near = layer.forward_at(&format!("focal_layers.{l}"), &near)?;
            let gated = near.mul(&gates.narrow(1, l, 1)?)?;
            context = Some(match context {
                Some(sum) => sum.add(&gated)?,
                None => gated,
            });
        }
        let whole = near.adaptive_avg_pool2d((1, 1))?.gelu()?.mul(&gates.narrow(1, levels, 1)?)?;
        let context = match context {
            Some(sum) => sum.add(&whole)?,
            None => whole,
        };
        self.proj.forward_at("proj", &query.mul(&self.h.forward_at("h", &context)?)?)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Parameters};

    use super::*;

    /// 28.4 M and 28.6 M: Yang et al. 2022, table 1. In full, of timm 1.0.31: `sum(p.numel() for p in
    /// timm.create_model("focalnet_tiny_srf").parameters())`.
    #[test]
    fn parameters_are_as_many_as_published() {
        let count =
            |config: FocalNetConfig| config.build(&mut Rng::new(0)).unwrap().parameter_count();
        assert_eq!(count(FocalNetConfig::default()), 28_427_116);
        assert_eq!(count(FocalNetConfig::tiny_lrf()), 28_647_928);
    }

    #[test]
    fn sizes_without_a_network_are_refused() {
        let good = FocalNetConfig::default;
        for config in [
            FocalNetConfig { window: 4, ..good() },
            FocalNetConfig { depths: vec![], ..good() },
            FocalNetConfig { levels: vec![2, 2], ..good() },
            FocalNetConfig { width: 0, ..good() },
        ] {
            let refused = config.build(&mut Rng::new(0));
            assert!(matches!(refused, Err(Error::Argument { op: "focalnet", .. })));
        }
    }
}
