//! Methods that see a matrix through its products with vectors.

pub(crate) mod conjugate_gradients;
pub(crate) mod lanczos;
pub(crate) mod staleness;
pub(crate) mod trace;
