//! Alcyon's compute kernels: slices in, slices out.
//!
//! | module | content |
//! |---|---|
//! | [`float`], [`pool`], [`parallel`], [`vector`] | scalar functions, reused memory, threads by amount of work, wide vectors |
//! | [`elementwise`], [`strided`], [`mod@transpose`] | a formula at every element; views and broadcasting; turning |
//! | [`reduce`], [`mod@length`] | sums, dot products, maxima along an axis; lengths of any numbers |
//! | [`mod@gemm`] | the matrix product |
//! | [`index`], [`along`], [`sort`] | rows or elements picked by number, and added back; orders |
//! | [`softmax`], [`attention`] | softmax, cross-entropy; attention by blocks of rows |
//! | [`norm`], [`mod@rms_norm`], [`mod@group_norm`] | layer and batch norm; RMS norm; group norm |
//! | [`unfold`], [`conv`], [`pooling`] | sliding windows: patches, convolution, pooling |
//! | [`mod@interpolate`] | images at another resolution |
//! | [`second_moment`] | column squares and grams of rows, channels and patches |
//! | [`step`] | fused parameter updates |
//! | [`linalg`] | eigenvectors, Cholesky and inverse roots of symmetric matrices, in f64 |
//!
//! Conventions, the same in every file:
//! - arrays are row-major and contiguous; lengths are checked at the door with an assertion that
//!   names the kernel (the engine has checked shapes before, so a failure here is our bug);
//! - a kernel writes *every* element of its output and never reads it first, unless its name says
//!   that it adds (`add_*`, `*_acc`);
//! - no kernel allocates on the hot path but through [`pool`];
//! - heavy kernels keep an obvious `reference` twin for good, and are tested against it;
//! - sums have a fixed order that does not depend on the number of threads.

#![allow(clippy::missing_panics_doc, reason = "every kernel asserts its lengths: see above")]

pub mod along;
pub mod attention;
pub mod conv;
#[cfg(feature = "cuda")]
pub mod cuda;
mod elementary;
pub mod elementwise;
pub mod float;
pub mod gemm;
pub mod group_norm;
pub mod index;
pub mod interpolate;
pub mod length;

pub mod linalg;
pub mod norm;
pub mod parallel;
pub mod pool;

pub mod pooling;
pub mod reduce;
pub mod rms_norm;
pub mod second_moment;
mod simd;
mod sizes;
pub mod softmax;
pub mod sort;
pub mod step;
pub mod strided;
pub mod transpose;
pub mod unfold;
pub mod vector;

#[cfg(test)]
mod oracle;

pub use float::Float;
pub use pool::Buffer;
