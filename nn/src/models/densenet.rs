//! DenseNet: every layer sees all earlier ones of its block. Huang et al. 2017, "Densely Connected
//! Convolutional Networks" (DenseNet-BC).
//!
//! ```text
//! x → conv 7×7 /2 → bn → relu → max pool 3 /2   (conv 3×3 → bn → relu for images of 32 × 32)
//!   → block → transition → block → … → block → bn → relu → mean over the image → linear → logits
//!
//! layer        x → x beside conv 3×3(relu(bn(conv 1×1(relu(bn(x)))))), `growth` channels more
//! transition   x → mean 2×2 of conv 1×1(relu(bn(x))), half the channels
//! ```

use engine::{Result, Rng, Var, parameters};

use super::{Stem, demand, fan_in_convolution, window};
use crate::layer::{AdaptiveAvgPool2d, AvgPool2d, Flatten, MaxPool2d, Relu, Sequential};
use crate::{BatchNorm2d, Conv2d, Dropout, Linear, Module};

/// The sizes of a densely connected network. `Default` is DenseNet-121 for ImageNet.
///
/// # Shape
/// x: `[N, 3, H, W]` · result: `[N, classes]`
///
/// # Example
/// ```
/// use alcyon_nn::models::DenseNetConfig;
/// use engine::{Parameters, Rng};
/// let model = DenseNetConfig::default().build(&mut Rng::new(0))?;
/// assert_eq!(model.parameter_count(), 7_978_856);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DenseNetConfig {
    /// What it begins with.
    pub stem: Stem,
    /// Channels after the first convolution.
    pub first: usize,
    /// Channels that each layer adds.
    pub growth: usize,
    /// Layers in each block; between blocks the image is halved.
    pub blocks: Vec<usize>,
    /// Channels between the two convolutions of a layer, in units of the growth.
    pub bottleneck: usize,
    /// Outputs.
    pub classes: usize,
    /// The probability of dropout at the end of each layer.
    pub dropout: f64,
}

impl Default for DenseNetConfig {
    fn default() -> Self {
        Self {
            stem: Stem::ImageNet,
            first: 64,
            growth: 32,
            blocks: vec![6, 12, 24, 16],
            bottleneck: 4,
            classes: 1000,
            dropout: 0.0,
        }
    }
}

impl DenseNetConfig {
    /// torchvision's `densenet121` and its kin: convolutions from N(0, 2 / fan_in), norms of scale 1.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0, there is no block, or the dropout is
    /// outside 0 .. 1.
    pub fn build(&self, rng: &mut Rng) -> Result<Sequential> {
        self.check()?;
        let stem = if self.stem == Stem::Cifar { window(3, 1, 1) } else { window(7, 2, 3) };
        let mut features = Sequential::new()
            .named("conv0", fan_in_convolution(3, self.first, stem, rng))
            .named("norm0", BatchNorm2d::new(self.first))
            .named("relu0", Relu);
        if self.stem == Stem::ImageNet {
            features = features.named("pool0", MaxPool2d { window: window(3, 2, 1) });
        }
        let mut channels = self.first;
        for (i, &layers) in self.blocks.iter().enumerate() {
            if i > 0 {
                features = features.named(&format!("transition{i}"), transition(channels, rng));
                channels /= 2;
            }
            let mut block = Sequential::new();
            for layer in 0..layers {
                let name = format!("denselayer{}", layer + 1);
                block = block.named(&name, DenseLayer::new(channels, self, rng));
                channels += self.growth;
            }
            features = features.named(&format!("denseblock{}", i + 1), block);
        }
        let mut classifier = Linear::new(channels, self.classes, rng);
        if let Some(bias) = &mut classifier.bias {
            *bias.value_mut() = bias.value().scale(0.0)?;
        }
        Ok(Sequential::new()
            .named("features", features.named("norm5", BatchNorm2d::new(channels)))
            .named("relu", Relu)
            .named("avgpool", AdaptiveAvgPool2d::new((1, 1)))
            .named("flatten", Flatten)
            .named("classifier", classifier))
    }

    fn check(&self) -> Result<()> {
        let Self { first, growth, blocks, bottleneck, classes, dropout, .. } = self;
        for (name, size) in
            [("first", first), ("growth", growth), ("bottleneck", bottleneck), ("classes", classes)]
        {
            demand("densenet", name, *size > 0, "at least 1", size)?;
        }
        let some = !blocks.is_empty() && !blocks.contains(&0);
        demand("densenet", "blocks", some, "at least 1 layer in at least 1 block", blocks)?;
        demand("densenet", "dropout", (0.0..1.0).contains(dropout), "in 0 .. 1", dropout)
    }
}

fn transition(channels: usize, rng: &mut Rng) -> Sequential {
    Sequential::new()
        .named("norm", BatchNorm2d::new(channels))
        .named("relu", Relu)
        .named("conv", fan_in_convolution(channels, channels / 2, window(1, 1, 0), rng))
        .named("pool", AvgPool2d::new(2))
}

/// What it sees, with some channels more.
#[derive(Debug)]
struct DenseLayer {
    norm1: BatchNorm2d,
    conv1: Conv2d,
    norm2: BatchNorm2d,
    conv2: Conv2d,
    dropout: Dropout,
}
parameters!(DenseLayer { norm1, conv1, norm2, conv2 });

impl DenseLayer {
    fn new(inputs: usize, config: &DenseNetConfig, rng: &mut Rng) -> Self {
        let inner = config.bottleneck * config.growth;
        Self {
            norm1: BatchNorm2d::new(inputs),
            conv1: fan_in_convolution(inputs, inner, window(1, 1, 0), rng),
            norm2: BatchNorm2d::new(inner),
            conv2: fan_in_convolution(inner, config.growth, window(3, 1, 1), rng),
            dropout: Dropout::new(config.dropout),
        }
    }
}

impl Module for DenseLayer {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = self.conv1.forward_at("conv1", &self.norm1.forward_at("norm1", x)?.relu()?)?;
        let y = self.conv2.forward_at("conv2", &self.norm2.forward_at("norm2", &y)?.relu()?)?;
        Var::concat(&[x, &self.dropout.forward(&y)?], 1)
    }
}

#[cfg(test)]
mod tests {
    use engine::{DType, Error, Shape, Tensor};

    use super::*;

    #[test]
    fn the_stem_for_small_images_keeps_their_size() {
        let config = DenseNetConfig {
            stem: Stem::Cifar,
            first: 4,
            growth: 2,
            blocks: vec![1, 1],
            classes: 3,
            ..DenseNetConfig::default()
        };
        let model = config.build(&mut Rng::new(0)).unwrap();
        // Halved once, between the blocks: a single pixel cannot be.
        let y = model.predict(&Tensor::zeros([2, 3, 2, 2], DType::F32)).unwrap();
        assert_eq!(*y.shape(), Shape::from([2, 3]));
        let error = model.predict(&Tensor::zeros([2, 3, 1, 1], DType::F32)).unwrap_err();
        assert!(error.to_string().starts_with("features.transition1.pool: "), "{error}");
    }

    #[test]
    fn sizes_without_a_network_are_refused() {
        let good = DenseNetConfig::default;
        for config in [
            DenseNetConfig { growth: 0, ..good() },
            DenseNetConfig { blocks: vec![], ..good() },
            DenseNetConfig { blocks: vec![1, 0], ..good() },
            DenseNetConfig { dropout: -0.1, ..good() },
        ] {
            let refused = config.build(&mut Rng::new(0));
            assert!(matches!(refused, Err(Error::Argument { op: "densenet", .. })));
        }
    }
}
