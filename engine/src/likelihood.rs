//! `Likelihood`: a loss that is a negative log-likelihood, so that it can be sampled from.

use crate::{Result, Rng, Tensor, Var};

/// A mean over N terms of a negative log-likelihood of a model's outputs.
///
/// # Units
/// Seeds are gradients of the *mean* with respect to the outputs: they carry 1/N. The factor N is
/// put back in exactly one place, where factors are finished.
pub trait Likelihood {
    /// N, the number of terms of the mean.
    fn terms(&self) -> usize;

    /// The loss: a scalar, the mean over N terms.
    ///
    /// # Errors
    /// When the outputs do not fit the targets.
    fn nll(&self, outputs: &Var) -> Result<Var>;

    /// ∂nll/∂outputs at targets drawn from the model itself: one draw of the (true) Fisher.
    ///
    /// # Errors
    /// When the outputs do not fit the targets.
    fn sampled_seed(&self, outputs: &Tensor, rng: &mut Rng) -> Result<Tensor>;

    /// Seeds s₁ … s_C of the outputs' shape such that for every term, with d_c = N·s_c,
    /// Σ_c d_c d_cᵀ is the expectation over the model's own targets: the exact Fisher, and the
    /// Hessian of the term with respect to its outputs.
    ///
    /// # Errors
    /// When the outputs do not fit the targets.
    fn exact_seeds(&self, outputs: &Tensor) -> Result<Vec<Tensor>>;
}
