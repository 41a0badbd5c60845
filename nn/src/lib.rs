//! Alcyon's modules, losses and data.
//!
//! A [`Module`] owns [`Parameter`](engine::Parameter)s and has a `forward`; a loss implements
//! [`Likelihood`](engine::Likelihood); a [`data::Loader`] hands out batches. What an optimizer is,
//! this crate does not know.
//!
//! | to see … | open |
//! |---|---|
//! | how a layer finds its tape and binds its parameters | `layer/linear.rs` |
//! | why an error says which layer it is from | `layer/sequential.rs` |
//! | where running statistics go | `layer/batch_norm.rs` |
//! | a model of the literature, and how its weights are loaded | `models/mod.rs`, `models/resnet.rs` |
//! | what a likelihood can do that a loss cannot | `loss/mod.rs` |
//! | how a file from elsewhere is read without trusting it | `data/idx.rs`, `data/tree.rs` |
//! | how batches come in order from several threads | `data/loader.rs`, `data/prefetch.rs` |
//!
//! # Example
//! ```
//! use alcyon_nn::{CrossEntropy, Mlp, Module, data, metric};
//! use engine::{Likelihood, Rng, Tape};
//! let (train, _test) = data::digits()?;
//! let model = Mlp::new(&[64, 16, 10], &mut Rng::new(0));
//! let loader = data::Loader::new(&train, 32)?;
//! for batch in loader.epoch(&mut Rng::new(1)).take(1) {
//!     let batch = batch?;
//!     let tape = Tape::training(0);
//!     let logits = model.forward(&tape.input(batch.inputs))?;
//!     let loss = CrossEntropy::new(&batch.targets).nll(&logits)?;
//!     assert!((loss.item()? - 10.0_f64.ln()).abs() < 0.5); // untrained: a guess among ten
//!     assert_eq!(tape.backward(&loss)?.len(), 4);
//!     assert!(metric::accuracy(&logits.value(), &batch.targets)? < 0.5);
//! }
//! # Ok::<(), engine::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod data;
pub mod init;
pub mod layer;
pub mod loss;
pub mod metric;
pub mod models;
pub mod module;

pub use checkpoint::Checkpoint;
pub use layer::{
    Activation, AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv1d, Conv2d, ConvTranspose2d,
    Dropout, Embedding, Flatten, GroupNorm, LayerNorm, LayerNorm2d, Linear, Lstm, LstmState,
    MaxPool2d, MultiHeadAttention, QkvAttention, RmsNorm, Sequential, SqueezeExcite,
    StochasticDepth, WindowAttention,
};
pub use loss::{BinaryCrossEntropy, CrossEntropy, Mse};
pub use models::Mlp;
pub use module::Module;
