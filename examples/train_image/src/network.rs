//! Networks by name, for images of a given size.

use alcyon::nn::layer::Relu;
use alcyon::nn::models::{DenseNetConfig, MobileNetV3Config, ResNetConfig, Stem, VitConfig};
use alcyon::nn::{BatchNorm2d, Conv2d, Flatten, MaxPool2d};
use alcyon::prelude::*;

/// The names there are.
const NAMES: [&str; 9] = [
    "mlp",
    "cnn",
    "resnet8",
    "resnet18",
    "resnet50",
    "densenet121",
    "mobilenet-v3-small",
    "mobilenet-v3-large",
    "vit-tiny",
];

/// A network for images `[C, H, W]`.
pub(crate) fn build(
    name: &str,
    shape: [usize; 3],
    classes: usize,
    rng: &mut Rng,
) -> Result<Box<dyn Module>> {
    let [channels, height, width] = shape;
    // Images of 64 pixels or fewer are not made smaller at once.
    let stem = if height <= 64 { Stem::Cifar } else { Stem::ImageNet };
    if !["mlp", "cnn"].contains(&name) && NAMES.contains(&name) && channels != 3 {
        return Err(Error::Argument {
            op: "train_image",
            name: "--model",
            expected: "mlp or cnn for images of one channel",
            got: name.to_owned(),
        });
    }
    Ok(match name {
        "mlp" => Box::new(Mlp::new(&[channels * height * width, 256, 256, classes], rng)),
        "cnn" => Box::new(small(shape, classes, rng)),
        "resnet8" => {
            let config = ResNetConfig { blocks: vec![1, 1, 1], width: 16, ..Default::default() };
            Box::new(ResNetConfig { classes, stem, ..config }.build(rng)?)
        }
        "resnet18" => {
            Box::new(ResNetConfig { classes, stem, ..ResNetConfig::of_depth(18)? }.build(rng)?)
        }
        "resnet50" => {
            Box::new(ResNetConfig { classes, stem, ..ResNetConfig::of_depth(50)? }.build(rng)?)
        }
        "densenet121" => {
            Box::new(DenseNetConfig { classes, stem, ..Default::default() }.build(rng)?)
        }
        "mobilenet-v3-small" => {
            Box::new(MobileNetV3Config { classes, ..MobileNetV3Config::small() }.build(rng)?)
        }
        "mobilenet-v3-large" => {
            Box::new(MobileNetV3Config { classes, ..MobileNetV3Config::large() }.build(rng)?)
        }
        "vit-tiny" => {
            let patch = if height <= 64 { 4 } else { 16 };
            Box::new(VitConfig { image: height, patch, classes, ..Default::default() }.build(rng)?)
        }
        _ => {
            let known = NAMES.map(str::to_owned).to_vec();
            return Err(Error::Unknown { what: "model", got: name.to_owned(), known });
        }
    })
}

/// Two convolutions with batch norm, each followed by a pooling that halves the image.
fn small([channels, height, width]: [usize; 3], classes: usize, rng: &mut Rng) -> Sequential {
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    Sequential::new()
        .then(Conv2d::new(channels, 16, window, rng))
        .then(BatchNorm2d::new(16))
        .then(Relu)
        .then(MaxPool2d::new(2))
        .then(Conv2d::new(16, 32, window, rng))
        .then(BatchNorm2d::new(32))
        .then(Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Linear::new(32 * (height / 4) * (width / 4), classes, rng))
}
