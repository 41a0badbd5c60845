//! The models of the literature: one file each, in which the paper, a diagram and the shapes come first.
//!
//! | model | paper | parameter names of |
//! |---|---|---|
//! | [`MlpConfig`] | Nagwekar, "Towards Guided Descent" | |
//! | [`ResNetConfig`] | He et al. 2016 | torchvision |
//! | [`DenseNetConfig`] | Huang et al. 2017 | torchvision |
//! | [`MobileNetV3Config`] | Howard et al. 2019 | torchvision |
//! | [`VitConfig`]: [`Vit`] | Dosovitskiy et al. 2021 | timm |
//! | [`SwinConfig`] | Liu et al. 2021 | torchvision |
//! | [`FocalNetConfig`] | Yang et al. 2022 | timm |
//! | [`CctConfig`]: [`Cct`] | Hassani et al. 2021 | the authors' program |
//! | [`GptConfig`]: [`Gpt`], [`Gpt2`] | Radford et al. 2018, 2019 | Hugging Face, by [`from_hugging_face`] |
//! | [`LstmConfig`]: [`LstmModel`] | Zaremba et al. 2014 | PyTorch's `nn.LSTM` and `word_language_model` |
//!
//! Names, shapes and order of the parameters are those of the originals, so that their safetensors files
//! load with [`checkpoint::load`](crate::checkpoint::load). All start as the originals do, in f32. A model is
//! built by a small configuration whose `Default`, or a function named after the variant, has the published
//! sizes. What is a chain of named parts comes as a [`Sequential`](crate::Sequential). The tests compare
//! counts of parameters with the published ones, and outputs with those of the originals
//! (`tests/golden/make.py`).
//!
//! # Example
//! A network for ten classes, all but its readout from a file that torchvision's `resnet18` wrote:
//! ```no_run
//! use alcyon_nn::{Checkpoint, models::ResNetConfig};
//! use engine::Rng;
//! let mut model = ResNetConfig { classes: 10, ..ResNetConfig::of_depth(18)? }.build(&mut Rng::new(0))?;
//! let file = Checkpoint::read("resnet18.safetensors".as_ref())?;
//! let body = file.translate(|name, value| {
//!     Ok((!name.starts_with("fc.")).then(|| (name.to_owned(), value)))
//! })?;
//! assert_eq!(body.restore_part(&mut model)?, ["fc.weight", "fc.bias"]);
//! # Ok::<(), engine::Error>(())
//! ```

pub mod cct;
pub mod densenet;
pub mod focalnet;
pub mod gpt;
pub mod gpt2;
mod hugging_face;
pub mod lstm;
pub mod mlp;
pub mod mobilenet_v3;
pub mod resnet;
pub mod swin;
pub mod vit;

use engine::{DType, Error, Geometry, Parameter, Result, Rng, Tensor, Window};

use crate::{Conv2d, Linear, init};

pub use cct::{Cct, CctConfig};
pub use densenet::DenseNetConfig;
pub use focalnet::FocalNetConfig;
pub use gpt::{Gpt, GptConfig};
pub use gpt2::Gpt2;
pub use hugging_face::from_hugging_face;
pub use lstm::{LstmConfig, LstmModel};
pub use mlp::{Mlp, MlpConfig};
pub use mobilenet_v3::{MobileBlock, MobileNetV3Config};
pub use resnet::{ResNetConfig, Stem};
pub use swin::SwinConfig;
pub use vit::{Vit, VitConfig};

/// Refuses an option of a model's configuration, unless it is all right.
fn demand(
    op: &'static str,
    name: &'static str,
    right: bool,
    expected: &'static str,
    got: &dyn std::fmt::Debug,
) -> Result<()> {
    if right {
        return Ok(());
    }
    Err(Error::Argument { op, name, expected, got: format!("{got:?}") })
}

/// A square window.
const fn window(kernel: usize, stride: usize, padding: usize) -> Window {
    let [kernel, stride, padding] = [(kernel, kernel), (stride, stride), (padding, padding)];
    Window { kernel, stride, padding, dilation: (1, 1) }
}

/// A convolution without a bias, from N(0, 2 / fan_out): He et al. 2015.
fn convolution(
    inputs: usize,
    outputs: usize,
    window: Window,
    groups: usize,
    rng: &mut Rng,
) -> Conv2d {
    let shape = [outputs, inputs / groups, window.kernel.0, window.kernel.1];
    let weight = init::fan_out_normal(shape, init::relu_gain(0.0), rng);
    Conv2d { weight: Parameter::new(weight), bias: None, geometry: Geometry { window, groups } }
}

/// A convolution without a bias, from N(0, 2 / fan_in): He et al. 2015.
fn fan_in_convolution(inputs: usize, outputs: usize, window: Window, rng: &mut Rng) -> Conv2d {
    let shape = [outputs, inputs, window.kernel.0, window.kernel.1];
    let weight = init::kaiming_normal(shape, init::relu_gain(0.0), rng);
    Conv2d { weight: Parameter::new(weight), bias: None, geometry: Geometry { window, groups: 1 } }
}

/// A linear layer from N(0, deviation²), with a bias of 0.
fn normal_linear(inputs: usize, outputs: usize, deviation: f64, rng: &mut Rng) -> Linear {
    let weight = Tensor::normal([outputs, inputs], 0.0, deviation, DType::F32, rng);
    let bias = Some(Parameter::new(Tensor::zeros([outputs], DType::F32)));
    Linear { weight: Parameter::new(weight), bias }
}
