//! Frames: what rules of one kind share, so that a rule is its formula.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod descent;
pub(crate) mod first;
pub(crate) mod layerwise;
pub(crate) mod layout;
pub(crate) mod moments;
pub(crate) mod per_parameter;
pub(crate) mod saved;
pub(crate) mod second_diagonal;
