//! Matrices and vectors that optimizers compute with, in f64 or on tensors.

pub(crate) mod axes;
pub(crate) mod dense;
pub(crate) mod finite;
pub(crate) mod flat;
pub(crate) mod on_tensors;
pub(crate) mod pattern;
pub(crate) mod read_together;
pub(crate) mod sides;
