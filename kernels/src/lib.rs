//! Alcyon's compute kernels: slices in, slices out.
//!
//! Conventions, the same in every file:
//! - arrays are row-major and contiguous; lengths are checked at the door with an assertion that
//!   names the kernel (the engine has checked shapes before, so a failure here is our bug);
//! - a kernel writes *every* element of its output and never reads it first, unless its name says
//!   that it adds (`add_*`, `*_acc`);
//! - no kernel allocates on the hot path but through [`pool`];
//! - heavy kernels keep an obvious `reference` twin for good, and are tested against it;
//! - sums have a fixed order that does not depend on the number of threads.

#[cfg(feature = "cuda")]
pub mod cuda;
pub mod float;
pub mod parallel;
pub mod pool;

pub use float::Float;
pub use pool::Buffer;
