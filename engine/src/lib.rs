//! Alcyon's engine: tensors, a tape that keeps every layer visible, ops, gradients.
//!
//! The way of a number: a [`Tensor`] is placed on a [`Tape`] and becomes a [`Var`]; ops make more
//! Vars and write records; [`Tape::backward`] walks the records from the last to the first and
//! returns [`Gradients`], handing each layer's input and output gradient to a [`LayerObserver`]
//! on the way.
//!
//! | to see … | open |
//! |---|---|
//! | what a tensor is | `tensor/mod.rs` |
//! | what an op must say | `op.rs`, then any file of `ops/` |
//! | how a pass is recorded | `tape/mod.rs` |
//! | how gradients flow | `tape/backward.rs` |
//! | what curvature reads | `tape/layer_record.rs` |
#![deny(unsafe_code)]

pub mod compose;
pub mod device;
pub mod dtype;
pub mod error;
pub mod gradcheck;
pub mod layout;
pub mod likelihood;
pub mod number;
pub mod op;
pub mod ops;
pub mod parameter;
pub mod rng;
pub mod room;
pub mod shape;
pub mod storage;
pub mod tape;
pub mod tensor;

pub use device::Device;
pub use dtype::{DType, Element, FloatElement};
pub use error::{Error, Result};
pub use kernels::unfold::Window;
pub use layout::Layout;
pub use likelihood::Likelihood;
pub use number::Number;
pub use op::{Halves, Keeps, Op, OpSpec, Sample, Site};
pub use parameter::{Buffer, ParamId, Parameter, Parameters};
pub use rng::Rng;
pub use shape::Shape;
pub use storage::Storage;
#[cfg(feature = "cuda")]
pub use tape::Replay;
pub use tape::{
    Geometry, Gradients, Layer, LayerObserver, LayerRecord, Memory, Norm, Product, Rows, Tape,
    Unused, VarGradients,
};
pub use tensor::{History, Plain, Taped, Tensor, Var};
