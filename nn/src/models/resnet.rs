//! ResNet: blocks that add what they compute to what they were given. He et al. 2016, "Deep Residual
//! Learning for Image Recognition".
//!
//! ```text
//! x → conv 7×7 /2 → bn → relu → max pool 3 /2   (conv 3×3 → bn → relu for images of 32 × 32)
//!   → stage of width 64 → 128 /2 → 256 /2 → 512 /2 → mean over the image → linear → logits
//!
//! basic       y = relu(x + bn(conv 3×3(relu(bn(conv 3×3 /s(x))))))
//! bottleneck  y = relu(x + bn(conv 1×1(relu(bn(conv 3×3 /s(relu(bn(conv 1×1(x)))))))))
//! ```
//! Where width or size change, x is replaced by bn(conv 1×1 /s(x)). The stride of a bottleneck is in its
//! 3 × 3 convolution, as in torchvision ("v1.5"), and not in the first, as in the paper.

use engine::{Result, Rng, Var, parameters};

use super::{convolution, demand, window};
use crate::layer::{AdaptiveAvgPool2d, Flatten, MaxPool2d, Relu, Sequential};
use crate::{BatchNorm2d, Conv2d, Linear, Module};

/// What a residual network begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stem {
    /// A convolution of 7 × 7 and a pooling, which together make the image 4 times smaller.
    #[default]
    ImageNet,
    /// A convolution of 3 × 3 that keeps the size, and no pooling: for 32 × 32 pixels.
    Cifar,
}

/// The sizes of a residual network. `Default` is ResNet-18 for ImageNet; with [`Stem::Cifar`] it is the
/// usual variant for images of 32 × 32.
///
/// # Shape
/// x: `[N, 3, H, W]` · result: `[N, classes]`
///
/// # Example
/// ```
/// use alcyon_nn::models::{ResNetConfig, Stem};
/// use engine::{Parameters, Rng};
/// let config = ResNetConfig { stem: Stem::Cifar, classes: 10, ..ResNetConfig::of_depth(18)? };
/// assert_eq!(config.build(&mut Rng::new(0))?.parameter_count(), 11_173_962);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Blocks in each stage; every stage but the first halves the image and doubles the width.
    pub blocks: Vec<usize>,
    /// Whether a block is a bottleneck of three convolutions with an output 4 times as wide.
    pub bottleneck: bool,
    /// The width of the first stage; 64 in the paper.
    pub width: usize,
    /// Outputs.
    pub classes: usize,
    /// What it begins with.
    pub stem: Stem,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            blocks: vec![2, 2, 2, 2],
            bottleneck: false,
            width: 64,
            classes: 1000,
            stem: Stem::ImageNet,
        }
    }
}

impl ResNetConfig {
    /// ResNet-18, -34, -50, -101 or -152.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) for another depth.
    pub fn of_depth(depth: usize) -> Result<Self> {
        let (bottleneck, blocks): (bool, &[usize]) = match depth {
            18 => (false, &[2, 2, 2, 2]),
            34 => (false, &[3, 4, 6, 3]),
            50 => (true, &[3, 4, 6, 3]),
            101 => (true, &[3, 4, 23, 3]),
            152 => (true, &[3, 8, 36, 3]),
            _ => (false, &[]),
        };
        demand("resnet", "depth", !blocks.is_empty(), "18, 34, 50, 101 or 152", &depth)?;
        Ok(Self { blocks: blocks.to_vec(), bottleneck, ..Self::default() })
    }

    /// torchvision's `resnet18` and its kin: convolutions from N(0, 2 / fan_out), norms of scale 1.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0, or there are no stages.
    pub fn build(&self, rng: &mut Rng) -> Result<Sequential> {
        let Self { blocks, bottleneck, width, classes, stem } = self;
        demand("resnet", "width", *width > 0, "at least 1", width)?;
        demand("resnet", "classes", *classes > 0, "at least 1", classes)?;
        // Widths double from stage to stage: with 16 the last has 32768 times the first's.
        let some = (1..=16).contains(&blocks.len()) && !blocks.contains(&0);
        demand("resnet", "blocks", some, "at least 1 in each of 1 to 16 stages", blocks)?;
        let first = if *stem == Stem::Cifar { window(3, 1, 1) } else { window(7, 2, 3) };
        let mut model = Sequential::new()
            .named("conv1", convolution(3, *width, first, 1, rng))
            .named("bn1", BatchNorm2d::new(*width))
            .named("relu", Relu);
        if *stem == Stem::ImageNet {
            model = model.named("maxpool", MaxPool2d { window: window(3, 2, 1) });
        }
        let mut inputs = *width;
        for (stage, &count) in blocks.iter().enumerate() {
            let mut layers = Sequential::new();
            for i in 0..count {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let block = Block::new(inputs, width << stage, *bottleneck, stride, rng);
                inputs = block.outputs;
                layers = layers.then(block);
            }
            model = model.named(&format!("layer{}", stage + 1), layers);
        }
        Ok(model
            .named("avgpool", AdaptiveAvgPool2d::new((1, 1)))
            .named("flatten", Flatten)
            .named("fc", Linear::new(inputs, *classes, rng)))
    }
}

/// Two convolutions, or three, beside a shortcut.
#[derive(Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    conv3: Option<Conv2d>,
    bn3: Option<BatchNorm2d>,
    downsample: Option<Sequential>,
    outputs: usize,
}
parameters!(Block { conv1, bn1, conv2, bn2, conv3, bn3, downsample });

impl Block {
    fn new(inputs: usize, width: usize, bottleneck: bool, stride: usize, rng: &mut Rng) -> Self {
        let outputs = if bottleneck { 4 * width } else { width };
        let (first, second, third) = if bottleneck {
            (window(1, 1, 0), window(3, stride, 1), Some(window(1, 1, 0)))
        } else {
            (window(3, stride, 1), window(3, 1, 1), None)
        };
        let conv1 = convolution(inputs, width, first, 1, rng);
        let conv2 = convolution(width, width, second, 1, rng);
        let conv3 = third.map(|third| convolution(width, outputs, third, 1, rng));
        let downsample = (stride > 1 || inputs != outputs).then(|| {
            Sequential::new()
                .then(convolution(inputs, outputs, window(1, stride, 0), 1, rng))
                .then(BatchNorm2d::new(outputs))
        });
        let bn3 = bottleneck.then(|| BatchNorm2d::new(outputs));
        let (bn1, bn2) = (BatchNorm2d::new(width), BatchNorm2d::new(width));
        Self { conv1, bn1, conv2, bn2, conv3, bn3, downsample, outputs }
    }
}

impl Module for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward_at("downsample", x)?,
            None => x.clone(),
        };
        let y = self.conv1.forward_at("conv1", x)?;
        let y = self.bn1.forward_at("bn1", &y)?.relu()?;
        let y = self.conv2.forward_at("conv2", &y)?;
        let mut y = self.bn2.forward_at("bn2", &y)?;
        if let (Some(conv3), Some(bn3)) = (&self.conv3, &self.bn3) {
            y = bn3.forward_at("bn3", &conv3.forward_at("conv3", &y.relu()?)?)?;
        }
        Relu.forward(&y.add(&shortcut)?)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Parameters};

    use super::*;

    /// torchvision's documentation of `resnet18`, `resnet34` and `resnet50`; for 32 × 32 pixels,
    /// github.com/kuangliu/pytorch-cifar.
    #[test]
    fn parameters_are_as_many_as_published() {
        let count = |depth, stem, classes| {
            let config = ResNetConfig { stem, classes, ..ResNetConfig::of_depth(depth).unwrap() };
            config.build(&mut Rng::new(0)).unwrap().parameter_count()
        };
        assert_eq!(count(18, Stem::Cifar, 10), 11_173_962);
        assert_eq!(count(18, Stem::ImageNet, 1000), 11_689_512);
        assert_eq!(count(34, Stem::ImageNet, 1000), 21_797_672);
        assert_eq!(count(50, Stem::ImageNet, 1000), 25_557_032);
        assert_eq!(count(101, Stem::ImageNet, 1000), 44_549_160);
    }

    #[test]
    fn depths_and_sizes_without_a_network_are_refused() {
        let error = ResNetConfig::of_depth(19).unwrap_err().to_string();
        assert_eq!(error, "resnet: depth must be 18, 34, 50, 101 or 152, got 19");
        for config in [
            ResNetConfig { width: 0, ..ResNetConfig::default() },
            ResNetConfig { classes: 0, ..ResNetConfig::default() },
            ResNetConfig { blocks: vec![2, 0], ..ResNetConfig::default() },
            ResNetConfig { blocks: vec![], ..ResNetConfig::default() },
            ResNetConfig { blocks: vec![1; 70], ..ResNetConfig::default() },
        ] {
            assert!(matches!(config.build(&mut Rng::new(0)), Err(Error::Argument { .. })));
        }
    }
}
