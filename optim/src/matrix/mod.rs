//! Optimizers that look at a parameter as a matrix.

pub(crate) mod kl_shampoo;
pub(crate) mod muon;
pub(crate) mod psgd;
pub(crate) mod shampoo;
pub(crate) mod soap;
pub(crate) mod splus;
