//! What is kept of a layer, and its inverse.

pub(crate) mod block_inverse;
pub(crate) mod factor;
pub(crate) mod kronecker;
pub(crate) mod ledger;
pub(crate) mod precondition;
