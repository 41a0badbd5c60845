//! Records become running averages: the estimators.

pub(crate) mod diagonals;
pub(crate) mod hessian_diagonal;
pub(crate) mod kronecker_factors;
pub(crate) mod layer_rows;
pub(crate) mod running;
pub(crate) mod tentative;
