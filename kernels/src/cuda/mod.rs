//! CUDA through `cudarc`, which loads every library at run time: this compiles and starts on any
//! machine. Behind the feature `cuda`, which is on by default.
//!
//! | module | content |
//! |---|---|
//! | [`library`], [`probe()`] | where NVIDIA's libraries are; whether a device can be used, and why not |
//! | [`device`] | [`Gpu`]: an opened device with its one stream, copies to and from it |
//! | [`memory`] | a caching allocator with statistics |
//! | [`program`], [`compile`], [`cache`], [`module`] | kernel texts, compiled at run time, kept on disk |
//! | [`mod@graph`] | work that is captured once and queued again with one call |
//! | [`mod@launch`] | starting a kernel, its arguments compared with its text |
//! | [`mod@slice`] | typed runs of device memory: what kernels read and write |
//! | [`mod@gemm`], [`mod@affine`] | the matrix product, by cuBLAS; with a bias, by cuBLASLt |
//! | [`elementwise`], [`pairs`], [`strided`], [`mod@cast`] | formulas of one and two elements; copies and casts |
//! | [`reduce`], [`softmax`], [`norm`], [`index`], [`along`] | as on the CPU |
//! | [`cholesky`], [`mod@inner`], [`mod@newton_schulz`], [`mod@patches`], [`running`] | inverses, inner products, orthogonal matrices, rows and averages for curvature |
//! | [`mod@conv`] | convolutions: by cuDNN, by products of patches, by the definition |
//! | [`attention`], [`dropout`], [`group_norm`], [`interpolate`], [`pooling`], [`second_moment`], [`sort`] | as on the CPU |
//! | [`step`], [`rule`], [`verdict`] | parameter updates, all parameters in one launch; whether they are made |
//!
//! Everything is queued on one stream, so what was queued first has happened first, and memory that
//! was given back can be handed out at once. Only [`Gpu::read`] and [`Gpu::synchronize`] wait.

pub mod affine;
pub mod along;
pub mod attention;
pub mod cache;
pub mod cast;
pub mod cholesky;
pub mod compile;
pub mod conv;
pub mod device;
pub mod dropout;
pub mod elementwise;
mod error;
mod event;
mod fault;
mod formula;
pub mod gemm;
pub mod graph;
pub mod group_norm;
mod halves;
pub mod index;
pub mod inner;
pub mod interpolate;
pub mod launch;
pub mod library;
pub mod memory;
pub mod module;
pub mod newton_schulz;
pub mod norm;
mod operand;
pub mod pairs;
pub mod patches;
pub mod pooling;
mod probe;
pub mod program;
pub mod reduce;
pub mod rule;
pub mod running;
pub mod second_moment;
pub mod slice;
pub mod softmax;
pub mod sort;
pub mod step;
pub mod strided;
mod symbols;
pub mod verdict;

pub use device::Gpu;
pub use error::CudaError;
pub use graph::Graph;
pub use launch::{Arg, Dims, Grid, Image};
pub use probe::{DeviceInfo, NoDevice, probe};
pub use program::{Program, Text};
pub use slice::{Scalar, Slice, SliceMut};
