//! What layer norm and batch norm share: x̂ = (x − μ) / √(σ² + ε) over some axes, with
//! y = γ ∘ x̂ + β, and its gradient written with ops, to be differentiated again. With ĝ = g ∘ γ,
//!
//! dx = (ĝ − mean(ĝ) − x̂ · mean(ĝ ∘ x̂)) / √(σ² + ε),   dγ = Σ g ∘ x̂,   dβ = Σ g.
//!
//! In a pass that is not recorded, both ops call a fused kernel with the moments that forward
//! saved. In a recorded pass the moments are computed again from x: as constants they would lose
//! the second derivative.

use crate::op::Site;
use crate::tensor::Var;
use crate::{Error, Result, Shape};

/// The gradients of a norm of inputs x, γ?, β?, composed of differentiable ops.
///
/// `over` are the axes that are averaged over, `shared` those along which γ and β are repeated;
/// `aligned` is the shape of γ and β that broadcasts to x.
pub(super) fn composed(
    at: &Site<'_>,
    eps: f64,
    over: &[isize],
    shared: &[isize],
    aligned: Shape,
) -> Result<Vec<Option<Var>>> {
    let (x, g) = (&at.inputs[0], at.grad);
    let mean = |v: &Var| -> Result<Var> {
        let sum = v.sum_keep(over)?;
        let count = v.numel() as f64 / sum.numel().max(1) as f64;
        sum.scale(1.0 / count)
    };
    let centred = x.sub(&mean(x)?)?;
    let rstd = mean(&centred.square()?)?.shift(eps)?.sqrt()?.recip()?;
    let normal = centred.mul(&rstd)?;
    let d_x = at.want(0, || {
        let g = match at.inputs.get(1) {
            Some(scale) => g.mul(&scale.reshape(aligned)?)?,
            None => g.clone(),
        };
        g.sub(&mean(&g)?)?.sub(&normal.mul(&mean(&g.mul(&normal)?)?)?)?.mul(&rstd)
    })?;
    let mut all = vec![d_x];
    if at.inputs.len() > 1 {
        all.push(at.want(1, || g.mul(&normal)?.sum(shared))?);
    }
    if at.inputs.len() > 2 {
        all.push(at.want(2, || g.sum(shared))?);
    }
    Ok(all)
}

/// ε is a number that can be added to a variance.
pub(super) fn check_epsilon(op: &'static str, eps: f64) -> Result<()> {
    if eps >= 0.0 && eps.is_finite() {
        return Ok(());
    }
    let expected = "finite and not negative";
    Err(Error::Argument { op, name: "eps", expected, got: eps.to_string() })
}
