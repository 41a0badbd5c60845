//! From the factors of one layer to the direction of its weight and bias.
//!
//! The gradient matrix of a layer is [W | b]: the bias is the last column, as the last input of A is
//! the constant 1. A frozen (or uncovered) weight or bias leaves its columns out of A: what is
//! inverted is the block of the trainable ones.

use std::ops::Range;

use engine::{DType, Device, Result, Tensor};

use super::kronecker::Kronecker;
#[cfg(feature = "cuda")]
use super::precondition::there;
#[cfg(feature = "cuda")]
use super::precondition::there::Placed;
use super::precondition::{DampedInverse, DampingRule, Half, damped_inverses, direction};
#[cfg(feature = "cuda")]
use crate::algebra::pattern::Pattern;
use crate::curvature::block::factor::Factor;
use crate::curvature::form::Form;

/// The damped inverse of one layer's block, group by group.
#[derive(Debug, Clone)]
pub struct BlockInverse {
    /// The columns of [W | b] that are inverted.
    pub columns: Range<usize>,
    /// One for each group; of scale and shift, one for γ and one for β.
    pub groups: Vec<DampedInverse>,
}

/// The columns of [W | b] in which a weight and bias stand that are to be trained, or not.
#[must_use]
pub fn columns(block: &Kronecker, weight: bool, bias: bool) -> Range<usize> {
    let all = match block.form {
        Form::Dense => block.inputs(),
        Form::Transposed | Form::Lookup | Form::Joint { .. } => block.outputs(),
        Form::ScaleShift => block.groups,
    };
    let weights = all
        - match block.form {
            Form::Joint { biases } => biases,
            _ => usize::from(block.bias.is_some()),
        };
    let start = if weight { 0 } else { weights };
    let end = if bias && block.bias.is_some() { all } else { weights };
    start..end.max(start)
}

impl BlockInverse {
    /// Damps and inverts a block.
    ///
    /// A block that is no product (a diagonal of scale and shift, a joint one) has nothing to share λ out
    /// to: it is F + λ I under every rule.
    ///
    /// # Errors
    /// [`Error::Linalg`](engine::Error::Linalg) when the damped block is not positive definite.
    pub fn new(
        block: &Kronecker,
        columns: Range<usize>,
        damping: f64,
        rule: DampingRule,
    ) -> Result<Self> {
        let group = |k: usize| {
            let (a, g) = (|| block.input_factor(k), block.output_factor(k)?);
            match block.form {
                Form::Dense => damped_inverses(&g, &a()?.within(&columns), damping, rule),
                // The rows of the gradient are inputs, so the factors change places.
                Form::Transposed => damped_inverses(&a()?, &g.within(&columns), damping, rule),
                Form::Lookup => damped_inverses(&a()?, &g, damping, rule),
                Form::ScaleShift => {
                    damped_inverses(&g, &Factor::diagonal(vec![1.0]), damping, DampingRule::Exact)
                }
                Form::Joint { .. } => {
                    let g = g.within(&columns).inverse(damping)?;
                    Ok(DampedInverse { g, a: Half::one(), damping: 0.0 })
                }
            }
        };
        let groups = (0..block.groups).map(group).collect::<Result<_>>()?;
        Ok(Self { columns, groups })
    }

    /// The same from `[a, g]` on a device, found there, where that can be: whole blocks of two factors (or
    /// one diagonal), λ > 0 and not in eigenvectors. What cannot be inverted is NaN.
    ///
    /// # Errors
    /// When the device has no memory left.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(
        block: &Kronecker,
        [a, g]: &[Tensor; 2],
        columns: &Range<usize>,
        (damping, rule): (f64, DampingRule),
    ) -> Result<Option<Self>> {
        let whole = *columns == self::columns(block, true, true);
        let eigen = rule == DampingRule::Exact && block.form != Form::ScaleShift;
        if !whole || eigen || damping <= 0.0 || matches!(block.form, Form::Joint { .. }) {
            return Ok(None);
        }
        let group = |k: usize| {
            let part = |values: &Tensor, pattern: &Pattern| {
                values.narrow(0, k * pattern.numbers(), pattern.numbers())
            };
            let g = Placed { pattern: &block.outputs, values: part(g, &block.outputs)? };
            if block.form == Form::ScaleShift {
                let (eigenvalues, dim) = (Some(g.values.contiguous()?), block.outputs());
                let g = Half { matrices: Vec::new(), eigenvalues, dim };
                return Ok(DampedInverse { g, a: Half::one(), damping });
            }
            let a = Placed { pattern: &block.inputs, values: part(a, &block.inputs)? };
            match block.form {
                // The rows of the gradient are inputs, so the factors change places.
                Form::Transposed | Form::Lookup => there::damped_inverses(&a, &g, damping, rule),
                _ => there::damped_inverses(&g, &a, damping, rule),
            }
        };
        let groups = (0..block.groups).map(group).collect::<Result<_>>()?;
        Ok(Some(Self { columns: columns.clone(), groups }))
    }

    /// Its numbers, matrices and eigenvalues.
    #[cfg(feature = "cuda")]
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let halves = self.groups.iter().flat_map(|group| [&group.g, &group.a]);
        halves.flat_map(|half| half.matrices.iter().chain(&half.eigenvalues))
    }

    /// The same with its matrices in another dtype.
    ///
    /// # Errors
    /// Those of [`DampedInverse::to_dtype`].
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let groups =
            self.groups.iter().map(|group| group.to_dtype(dtype)).collect::<Result<_>>()?;
        Ok(Self { columns: self.columns.clone(), groups })
    }

    /// The same on another device.
    ///
    /// # Errors
    /// Those of [`DampedInverse::to_device`].
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let groups =
            self.groups.iter().map(|group| group.to_device(device)).collect::<Result<_>>()?;
        Ok(Self { columns: self.columns.clone(), groups })
    }

    /// Whether it is on a device.
    pub(crate) fn is_on(&self, device: Device) -> bool {
        let halves = self.groups.iter().flat_map(|group| [&group.g, &group.a]);
        halves.filter_map(Half::device).all(|at| at == device)
    }

    /// Bytes of what is kept.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.g.bytes() + group.a.bytes()).sum()
    }

    /// The directions of a weight and a bias, from their gradients and in their shapes. A missing
    /// gradient is one that is not among the columns; it has no direction.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a gradient is not of the block's size.
    pub fn direction(
        &self,
        form: Form,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let like = |x: Option<&Tensor>, parts: &[Tensor]| -> Result<Option<Tensor>> {
            let parts: Vec<&Tensor> = parts.iter().collect();
            x.map(|x| match parts.as_slice() {
                [part] => part.reshape(*x.shape()),
                parts => Tensor::concat(parts, 0)?.reshape(*x.shape()),
            })
            .transpose()
        };
        if form == Form::ScaleShift {
            let of = |k: usize, x: Option<&Tensor>| {
                x.zip(self.groups.get(k)).map(|(x, inverse)| direction(inverse, x)).transpose()
            };
            let [scale, shift] = [of(0, weight)?, of(1, bias)?];
            return Ok((like(weight, scale.as_slice())?, like(bias, shift.as_slice())?));
        }
        if let (Form::Joint { .. }, [inverse]) = (form, self.groups.as_slice()) {
            let flat = |x: &Tensor| x.reshape([x.numel(), 1]);
            let parts: Vec<Tensor> =
                weight.into_iter().chain(bias).map(flat).collect::<Result<_>>()?;
            let joint = direction(inverse, &Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?)?;
            let weights = weight.map_or(0, Tensor::numel);
            let [first, second] = [0..weights, weights..joint.numel()]
                .map(|range| joint.narrow(0, range.start, range.len()));
            return Ok((like(weight, &[first?])?, like(bias, &[second?])?));
        }
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (k, inverse) in self.groups.iter().enumerate() {
            let rows = inverse.g.dim;
            let part = |x: &Tensor| -> Result<Tensor> {
                let width = x.numel().checked_div(rows * self.groups.len()).unwrap_or(0);
                x.reshape([rows * self.groups.len(), width])?.narrow(0, k * rows, rows)
            };
            let (weight, bias) = (weight.map(part).transpose()?, bias.map(part).transpose()?);
            // [W | b]
            match (weight, bias) {
                (Some(weight), Some(bias)) => {
                    let joint = direction(inverse, &Tensor::concat(&[&weight, &bias], 1)?)?;
                    let width = weight.shape()[1];
                    weights.push(joint.narrow(1, 0, width)?);
                    biases.push(joint.narrow(1, width, 1)?);
                }
                (Some(weight), None) => weights.push(direction(inverse, &weight)?),
                (None, Some(bias)) => biases.push(direction(inverse, &bias)?),
                (None, None) => {}
            }
        }
        Ok((like(weight, &weights)?, like(bias, &biases)?))
    }
}
