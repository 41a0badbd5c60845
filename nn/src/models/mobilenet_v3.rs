//! MobileNetV3: depthwise convolutions in narrow blocks, with squeeze and excitation. Howard et al. 2019,
//! "Searching for MobileNetV3".
//!
//! ```text
//! x → conv 3×3 /2, bn, hard swish → block × n → conv 1×1, bn, hard swish → mean over the image
//!   → linear → hard swish → dropout → linear → logits
//!
//! block   x → (conv 1×1 to the expanded width, bn, act) → depthwise conv k×k /s, bn, act
//!           → (squeeze and excitation) → conv 1×1 to the output's width, bn → (+ x)
//! ```
//! What stands in brackets is left out when the block does not widen, does not ask for it, or changes the
//! size or width.

use engine::{Result, Rng, Var, parameters};

use super::{convolution, demand, normal_linear, window};
use crate::layer::{AdaptiveAvgPool2d, Dropout, Flatten, HardSwish, Relu, Sequential};
use crate::{Activation, BatchNorm2d, Module, SqueezeExcite};

/// One block of a MobileNetV3: a row of tables 1 and 2 of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MobileBlock {
    /// k, the size of the depthwise convolution.
    pub kernel: usize,
    /// The width inside.
    pub expanded: usize,
    /// The width of the output.
    pub outputs: usize,
    /// Whether there is squeeze and excitation.
    pub squeeze: bool,
    /// The nonlinearity: relu or hard swish.
    pub activation: Activation,
    /// s, the stride of the depthwise convolution.
    pub stride: usize,
}

/// The sizes of a MobileNetV3: see [`MobileNetV3Config::small`] and [`MobileNetV3Config::large`].
///
/// # Shape
/// x: `[N, 3, H, W]` · result: `[N, classes]`
///
/// # Example
/// ```
/// use alcyon_nn::models::MobileNetV3Config;
/// use engine::{Parameters, Rng};
/// let model = MobileNetV3Config::small().build(&mut Rng::new(0))?;
/// assert_eq!(model.parameter_count(), 2_542_856);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV3Config {
    /// The width after the first convolution.
    pub stem: usize,
    /// The blocks.
    pub blocks: Vec<MobileBlock>,
    /// The width before the readout.
    pub last: usize,
    /// Outputs.
    pub classes: usize,
    /// The probability of dropout before the readout.
    pub dropout: f64,
}

impl MobileNetV3Config {
    /// Table 2 of the paper.
    #[must_use]
    pub fn small() -> Self {
        let rows = [
            (3, 16, 16, true, Relu, 2),
            (3, 72, 24, false, Relu, 2),
            (3, 88, 24, false, Relu, 1),
            (5, 96, 40, true, HardSwish, 2),
            (5, 240, 40, true, HardSwish, 1),
            (5, 240, 40, true, HardSwish, 1),
            (5, 120, 48, true, HardSwish, 1),
            (5, 144, 48, true, HardSwish, 1),
            (5, 288, 96, true, HardSwish, 2),
            (5, 576, 96, true, HardSwish, 1),
            (5, 576, 96, true, HardSwish, 1),
        ];
        Self::of(&rows, 1024)
    }

    /// Table 1 of the paper.
    #[must_use]
    pub fn large() -> Self {
        let rows = [
            (3, 16, 16, false, Relu, 1),
            (3, 64, 24, false, Relu, 2),
            (3, 72, 24, false, Relu, 1),
            (5, 72, 40, true, Relu, 2),
            (5, 120, 40, true, Relu, 1),
            (5, 120, 40, true, Relu, 1),
            (3, 240, 80, false, HardSwish, 2),
            (3, 200, 80, false, HardSwish, 1),
            (3, 184, 80, false, HardSwish, 1),
            (3, 184, 80, false, HardSwish, 1),
            (3, 480, 112, true, HardSwish, 1),
            (3, 672, 112, true, HardSwish, 1),
            (5, 672, 160, true, HardSwish, 2),
            (5, 960, 160, true, HardSwish, 1),
            (5, 960, 160, true, HardSwish, 1),
        ];
        Self::of(&rows, 1280)
    }

    fn of(rows: &[(usize, usize, usize, bool, Activation, usize)], last: usize) -> Self {
        let block = |&(kernel, expanded, outputs, squeeze, activation, stride)| MobileBlock {
            kernel,
            expanded,
            outputs,
            squeeze,
            activation,
            stride,
        };
        let blocks = rows.iter().map(block).collect();
        Self { stem: 16, blocks, last, classes: 1000, dropout: 0.2 }
    }

    /// torchvision's `mobilenet_v3_small` and `mobilenet_v3_large`: convolutions from N(0, 2 / fan_out),
    /// linear layers from N(0, 0.01²).
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0, there is no block, a kernel is even, or
    /// the dropout is outside 0 .. 1.
    pub fn build(&self, rng: &mut Rng) -> Result<Sequential> {
        self.check()?;
        let stem = normalised(3, self.stem, 3, 2, 1, Some(HardSwish), rng);
        let (mut features, mut inputs) = (Sequential::new().then(stem), self.stem);
        for block in &self.blocks {
            features = features.then(InvertedResidual::new(inputs, block, rng));
            inputs = block.outputs;
        }
        let wide = 6 * inputs;
        features = features.then(normalised(inputs, wide, 1, 1, 1, Some(HardSwish), rng));
        let classifier = Sequential::new()
            .then(normal_linear(wide, self.last, 0.01, rng))
            .then(HardSwish)
            .then(Dropout::new(self.dropout))
            .then(normal_linear(self.last, self.classes, 0.01, rng));
        Ok(Sequential::new()
            .named("features", features)
            .named("avgpool", AdaptiveAvgPool2d::new((1, 1)))
            .named("flatten", Flatten)
            .named("classifier", classifier))
    }

    fn check(&self) -> Result<()> {
        let Self { stem, blocks, last, classes, dropout } = self;
        for (name, size) in [("stem", stem), ("last", last), ("classes", classes)] {
            demand("mobilenet_v3", name, *size > 0, "at least 1", size)?;
        }
        let fits = |b: &MobileBlock| b.kernel % 2 == 1 && b.stride * b.expanded * b.outputs > 0;
        let fits = !blocks.is_empty() && blocks.iter().all(fits);
        demand("mobilenet_v3", "blocks", fits, "at least 1, of odd kernels and sizes > 0", blocks)?;
        let share = (0.0..1.0).contains(dropout);
        demand("mobilenet_v3", "dropout", share, "in 0 .. 1", dropout)
    }
}

/// Convolution, norm, and a nonlinearity if there is one, as `0`, `1` and `2`.
fn normalised(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    activation: Option<Activation>,
    rng: &mut Rng,
) -> Sequential {
    let window = window(kernel, stride, kernel / 2);
    let norm = BatchNorm2d { eps: 1e-3, momentum: 0.01, ..BatchNorm2d::new(outputs) };
    let chain =
        Sequential::new().then(convolution(inputs, outputs, window, groups, rng)).then(norm);
    match activation {
        Some(activation) => chain.then(activation),
        None => chain,
    }
}

/// Wide inside, narrow at both ends, where the shortcut is.
#[derive(Debug)]
struct InvertedResidual {
    block: Sequential,
    shortcut: bool,
}
parameters!(InvertedResidual { block });

impl InvertedResidual {
    fn new(inputs: usize, config: &MobileBlock, rng: &mut Rng) -> Self {
        let MobileBlock { kernel, expanded, outputs, squeeze, activation, stride } = *config;
        let mut block = Sequential::new();
        if expanded != inputs {
            block = block.then(normalised(inputs, expanded, 1, 1, 1, Some(activation), rng));
        }
        let act = Some(activation);
        block = block.then(normalised(expanded, expanded, kernel, stride, expanded, act, rng));
        if squeeze {
            block = block.then(SqueezeExcite::new(expanded, eighths(expanded / 4), rng));
        }
        block = block.then(normalised(expanded, outputs, 1, 1, 1, None, rng));
        Self { block, shortcut: stride == 1 && inputs == outputs }
    }
}

impl Module for InvertedResidual {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = self.block.forward_at("block", x)?;
        if self.shortcut { y.add(x) } else { Ok(y) }
    }
}

/// The multiple of 8 next to n, at least 8, and not more than a tenth below n.
fn eighths(n: usize) -> usize {
    let near = ((n + 4) / 8 * 8).max(8);
    if near * 10 < n * 9 { near + 8 } else { near }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Parameters};

    use super::*;

    /// torchvision's documentation of `mobilenet_v3_small` and `mobilenet_v3_large`.
    #[test]
    fn parameters_are_as_many_as_published() {
        let count =
            |config: MobileNetV3Config| config.build(&mut Rng::new(0)).unwrap().parameter_count();
        assert_eq!(count(MobileNetV3Config::small()), 2_542_856);
        assert_eq!(count(MobileNetV3Config::large()), 5_483_032);
    }

    #[test]
    fn widths_are_rounded_to_eighths_but_not_far_down() {
        assert_eq!([1, 11, 12, 18, 24, 60, 72].map(eighths), [8, 16, 16, 24, 24, 64, 72]);
    }

    #[test]
    fn blocks_that_cannot_be_are_refused() {
        let with = |change: fn(&mut MobileNetV3Config)| {
            let mut config = MobileNetV3Config::small();
            change(&mut config);
            config.build(&mut Rng::new(0))
        };
        for refused in [
            with(|c| c.blocks.clear()),
            with(|c| c.blocks[0].kernel = 4),
            with(|c| c.blocks[1].stride = 0),
            with(|c| c.classes = 0),
            with(|c| c.dropout = 1.0),
        ] {
            assert!(matches!(refused, Err(Error::Argument { op: "mobilenet_v3", .. })));
        }
    }
}
