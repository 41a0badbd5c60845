//! What each kernel of the registry is given to do.

pub(crate) mod convolution;
pub(crate) mod matrix;
pub(crate) mod memory;
pub(crate) mod moments;
pub(crate) mod rows;
pub(crate) mod updates;
