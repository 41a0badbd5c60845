//! Alcyon's compute kernels: slices in, slices out.
//!
//! | module | content |
//! |---|---|
//! | [`float`], [`pool`], [`parallel`] | scalar functions, reused memory, threads by amount of work |
//! | [`elementwise`], [`strided`] | a formula at every element; views and broadcasting |
//! | [`reduce`] | sums, dot products, maxima along an axis |
//! | [`mod@gemm`] | the matrix product |
//! | [`index`] | rows picked by number, and added back |
//! | [`softmax`], [`norm`] | softmax, cross-entropy; layer and batch norm |
//! | [`unfold`], [`conv`], [`pooling`] | sliding windows: patches, convolution, pooling |
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

pub mod conv;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod elementwise;
pub mod float;
pub mod gemm;
pub mod index;

pub mod linalg;
pub mod norm;
pub mod parallel;
pub mod pool;

pub mod pooling;
pub mod reduce;
pub mod second_moment;
mod simd;
pub mod softmax;
pub mod step;
pub mod strided;
pub mod unfold;

#[cfg(test)]
mod oracle;

pub use float::Float;
pub use pool::Buffer;
