//! Computing in 16 bits. What an op hands out (outputs, gradients) is rounded to the 16-bit type of its
//! inputs; inside, everything is f32. An op's file need not know: its kernel and its rule get f32, here.
//! (Decision 0041.)

use super::{Keeps, Op, Saved, Site};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Device, Result};

/// Who takes 16-bit inputs as they are; all others get them widened to f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halves {
    /// Neither kernels nor the rule.
    Widened,
    /// The CUDA kernel, which adds in f32 and rounds what it writes. The rule is widened.
    InCuda,
    /// The CUDA kernel, and on all devices the rule: it is made of ops, each of which rounds.
    InCudaAndRule,
    /// All: the op moves numbers and computes with none.
    Moved,
}

impl Halves {
    const fn in_kernel(self, device: Device) -> bool {
        match self {
            Self::Widened => false,
            Self::InCuda | Self::InCudaAndRule => matches!(device, Device::Cuda(_)),
            Self::Moved => true,
        }
    }

    const fn in_rule(self) -> bool {
        matches!(self, Self::InCudaAndRule | Self::Moved)
    }
}

/// The 16-bit dtype of inputs that have to be widened for the kernel.
///
/// # Errors
/// [`Error::DType`](crate::Error::DType) when the op does not take the dtypes as they are.
pub(super) fn to_widen<H: History>(op: &dyn Op, inputs: &[&Tensor<H>]) -> Result<Option<DType>> {
    let Some(first) = inputs.iter().find(|t| t.dtype().is_half()) else { return Ok(None) };
    if op.halves().in_kernel(first.device()) {
        return Ok(None);
    }
    let dtypes: Vec<DType> = inputs.iter().map(|t| t.dtype()).collect();
    op.dtype(&dtypes).map(|_| Some(first.dtype()))
}

/// Runs an op in f32 and rounds its output. What the kernel saved stays f32.
pub(super) fn run<H: History>(
    op: &dyn Op,
    inputs: &[&Tensor<H>],
    half: DType,
) -> Result<(Tensor, Saved)> {
    let wide: Vec<Tensor> = inputs.iter().map(|t| widened(&t.value())).collect::<Result<_>>()?;
    let (y, saved) = super::run(op, &wide.iter().collect::<Vec<_>>())?;
    Ok((if y.dtype() == DType::F32 { y.to_dtype(half)? } else { y }, saved))
}

/// An op's backward rule. That of an op whose inputs were widened gets all in f32, and the gradients
/// are rounded to their inputs' dtypes.
pub(crate) fn backward(op: &dyn Op, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
    if op.halves().in_rule() {
        op.backward(at)
    } else {
        in_f32(at, op.keeps(), |at| op.backward(at))
    }
}

/// A rule that gets all in f32, and looks at what it `keeps`.
pub(crate) fn in_f32(
    at: &Site<'_>,
    keeps: Keeps,
    rule: impl FnOnce(&Site<'_>) -> Result<Vec<Option<Var>>>,
) -> Result<Vec<Option<Var>>> {
    if !at.inputs.iter().any(|x| x.dtype().is_half()) {
        return rule(at);
    }
    // What the rule does not look at need not be there: its shape will do.
    let seen = |x: &Var, kept: bool| match kept || at.is_recorded() || !x.dtype().is_half() {
        true => widened(x),
        false => Ok(Var::constant(&Tensor::meta(*x.shape(), DType::F32))),
    };
    let inputs: Vec<Var> =
        at.inputs.iter().map(|x| seen(x, keeps.inputs)).collect::<Result<_>>()?;
    let (output, grad) = (seen(at.output, keeps.output)?, widened(at.grad)?);
    let wide =
        Site { inputs: &inputs, output: &output, saved: at.saved, grad: &grad, needs: at.needs };
    let rounded = |(g, x): (Option<Var>, &Var)| g.map(|g| g.to_dtype(x.dtype())).transpose();
    rule(&wide)?.into_iter().zip(at.inputs).map(rounded).collect()
}

/// 16-bit numbers as f32, exactly; others as they are.
pub(crate) fn widened<H: History>(x: &Tensor<H>) -> Result<Tensor<H>> {
    if x.dtype().is_half() { x.to_dtype(DType::F32) } else { Ok(x.clone()) }
}
