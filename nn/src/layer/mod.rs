//! Layers and containers. All start as PyTorch's do, in f32; [`Module::to_dtype`] changes that.
//!
//! Fields are public and named as in PyTorch, so that paths in checkpoints agree:
//! `0.weight`, `1.running_mean`.
//!
//! [`Module::to_dtype`]: crate::Module::to_dtype

mod activation;
mod attention;
mod batch_norm;
mod conv1d;
mod conv2d;
mod conv_transpose2d;
mod dropout;
mod embedding;
mod flatten;
mod group_norm;
mod layer_norm;
mod layer_norm2d;
mod linear;
mod lstm;
mod pool;
mod qkv_attention;
mod rms_norm;
mod sequential;
mod squeeze_excite;
mod stochastic_depth;
mod window_attention;

pub use activation::Activation::{
    self, Gelu, HardSigmoid, HardSwish, Relu, Relu6, Sigmoid, Silu, Tanh,
};
pub use attention::{MultiHeadAttention, attend};
pub use batch_norm::BatchNorm2d;
pub use conv_transpose2d::ConvTranspose2d;
pub use conv1d::Conv1d;
pub use conv2d::Conv2d;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use flatten::Flatten;
pub use group_norm::GroupNorm;
pub use layer_norm::LayerNorm;
pub use layer_norm2d::LayerNorm2d;
pub use linear::Linear;
pub use lstm::{Lstm, LstmState};
pub use pool::{AdaptiveAvgPool2d, AvgPool2d, MaxPool2d};
pub use qkv_attention::QkvAttention;
pub use rms_norm::RmsNorm;
pub use sequential::Sequential;
pub use squeeze_excite::SqueezeExcite;
pub use stochastic_depth::StochasticDepth;
pub use window_attention::WindowAttention;
