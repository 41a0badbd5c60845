//! What the norms share: x̂ = (x − μ) / √(σ² + ε) over some axes, with y = γ ∘ x̂ + β, and its
//! gradient written with ops, to be differentiated again. With ĝ = g ∘ γ,
//!
//! dx = (ĝ − mean(ĝ) − x̂ · mean(ĝ ∘ x̂)) / √(σ² + ε),   dγ = Σ g ∘ x̂,   dβ = Σ g.
//!
//! RMS norm has μ = 0, and no mean(ĝ). In a pass that is not recorded, the ops call fused kernels with
//! the moments that forward saved. In a recorded pass the moments are computed again from x: as
//! constants they would lose the second derivative.

use crate::op::{Op, Site};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, Result, Shape};

/// Which numbers a norm takes together.
#[derive(Debug)]
pub(super) struct Composition<'a> {
    /// Added to the variance.
    pub(super) eps: f64,
    /// Whether the mean is subtracted.
    pub(super) centred: bool,
    /// x's shape, or one of as many numbers in which whole axes are averaged over.
    pub(super) view: Shape,
    /// The axes of `view` that are averaged over.
    pub(super) over: &'a [isize],
    /// The axes of x along which γ and β are repeated.
    pub(super) shared: &'a [isize],
    /// The shape of γ and β that broadcasts to x.
    pub(super) aligned: Shape,
}

impl Composition<'_> {
    /// The gradients of a norm of inputs x, γ?, β?, composed of differentiable ops.
    pub(super) fn gradients(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (x, g) = (&at.inputs[0], at.grad);
        let viewed = x.reshape(self.view)?;
        let centred =
            if self.centred { viewed.sub(&viewed.mean_keep(self.over)?)? } else { viewed };
        let rstd = centred.square()?.mean_keep(self.over)?.shift(self.eps)?.sqrt()?.recip()?;
        let normal = centred.mul(&rstd)?;
        let d_x = at.want(0, || {
            let g = match at.inputs.get(1) {
                Some(scale) => g.mul(&scale.reshape(self.aligned)?)?.reshape(self.view)?,
                None => g.reshape(self.view)?,
            };
            let along = normal.mul(&g.mul(&normal)?.mean_keep(self.over)?)?;
            let g = if self.centred { g.sub(&g.mean_keep(self.over)?)? } else { g };
            g.sub(&along)?.mul(&rstd)?.reshape(x.shape())
        })?;
        let mut all = vec![d_x];
        if at.inputs.len() > 1 {
            let product = || g.mul(&normal.reshape(x.shape())?)?.sum(self.shared);
            all.push(at.want(1, product)?);
        }
        if at.inputs.len() > 2 {
            all.push(at.want(2, || g.sum(self.shared))?);
        }
        Ok(all)
    }
}

/// Applies a norm to x and, if there are any, scale and shift.
pub(super) fn apply<H: History>(
    op: impl Op,
    x: &Tensor<H>,
    scale: Option<&Tensor<H>>,
    shift: Option<&Tensor<H>>,
) -> Result<Tensor<H>> {
    match (scale, shift) {
        (Some(scale), Some(shift)) => H::apply(op, &[x, scale, shift]),
        (Some(scale), None) => H::apply(op, &[x, scale]),
        (None, None) => H::apply(op, &[x]),
        (None, Some(_)) => Err(Error::Argument {
            op: op.name(),
            name: "shift",
            expected: "given together with a scale",
            got: "a shift alone".into(),
        }),
    }
}

/// ε is a number that can be added to a variance.
pub(super) fn check_epsilon(op: &'static str, eps: f64) -> Result<()> {
    if eps >= 0.0 && eps.is_finite() {
        return Ok(());
    }
    let expected = "finite and not negative";
    Err(Error::Argument { op, name: "eps", expected, got: eps.to_string() })
}
