//! Optimizers that look at the Hessian: its diagonal, its products, or the path of gradients.

pub(crate) mod adahessian;
pub(crate) mod hessian_free;
pub(crate) mod lbfgs;
pub(crate) mod line_search;
pub(crate) mod newton;
pub(crate) mod sophia;
