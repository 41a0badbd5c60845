//! From the factors of one layer to the direction of its weight and bias.
//!
//! The gradient matrix of a layer is [W | b]: the bias is the last column, as the last input of A is
//! the constant 1. A frozen (or uncovered) weight or bias leaves its columns out of A: what is
//! inverted is the block of the trainable ones.

use std::ops::Range;

use engine::Result;

use super::factors::{Form, Kronecker};
use super::precondition::{DampedInverse, DampingRule, Factor, Half, damped_inverses, direction};

/// The damped inverse of one layer's block, group by group.
#[derive(Debug, Clone, PartialEq)]
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
        Form::Transposed | Form::Lookup => block.outputs(),
        Form::ScaleShift => block.groups,
    };
    let weights = all - usize::from(block.bias.is_some());
    let start = if weight { 0 } else { weights };
    let end = if bias && block.bias.is_some() { all } else { weights };
    start..end.max(start)
}

impl BlockInverse {
    /// Damps and inverts a block.
    ///
    /// A diagonal block (scale and shift) has nothing to share λ out to: it is F + λ under every
    /// rule.
    ///
    /// # Errors
    /// [`Error::Linalg`](engine::Error::Linalg) when the damped block is not positive definite.
    pub fn new(
        block: &Kronecker,
        columns: Range<usize>,
        damping: f64,
        rule: DampingRule,
    ) -> Result<Self> {
        let (n, m) = (block.inputs(), block.outputs());
        let group = |k: usize| match block.form {
            Form::Dense => {
                let a = restricted(&block.a[k * n * n..(k + 1) * n * n], n, &columns);
                let g = Factor::full(m, &block.g[k * m * m..(k + 1) * m * m])?;
                damped_inverses(&g, &Factor::full(columns.len(), a)?, damping, rule)
            }
            // The rows of the gradient are inputs, so the factors change places.
            Form::Transposed => {
                let a = Factor::full(n, &block.a[k * n * n..(k + 1) * n * n])?;
                let g = restricted(&block.g[k * m * m..(k + 1) * m * m], m, &columns);
                damped_inverses(&a, &Factor::full(columns.len(), g)?, damping, rule)
            }
            Form::Lookup => {
                let (counts, g) = (Factor::diagonal(&block.a), Factor::full(m, &block.g)?);
                damped_inverses(&counts, &g, damping, rule)
            }
            Form::ScaleShift => {
                let squares = Factor::diagonal(&block.g[k * m..(k + 1) * m]);
                let one = Factor::diagonal(vec![1.0]);
                damped_inverses(&squares, &one, damping, DampingRule::Exact)
            }
        };
        let groups = (0..block.groups).map(group).collect::<Result<_>>()?;
        Ok(Self { columns, groups })
    }

    /// The numbers kept.
    #[must_use]
    pub(crate) fn numbers(&self) -> usize {
        let of = |half: &Half| {
            half.matrix.as_ref().map_or(0, Vec::len) + half.eigenvalues.as_ref().map_or(0, Vec::len)
        };
        self.groups.iter().map(|group| of(&group.g) + of(&group.a)).sum()
    }

    /// The direction of a weight and a bias, from their gradients in row-major order. A missing
    /// gradient is one that is not among the columns; its direction is empty.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a gradient is not of the block's size.
    pub fn direction(
        &self,
        form: Form,
        weight: Option<&[f64]>,
        bias: Option<&[f64]>,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let groups = self.groups.len().max(1);
        let mut out = (Vec::new(), Vec::new());
        for (k, inverse) in self.groups.iter().enumerate() {
            if form == Form::ScaleShift {
                match ([weight, bias][k], k) {
                    (Some(g), 0) => out.0 = direction(inverse, g)?,
                    (Some(g), _) => out.1 = direction(inverse, g)?,
                    (None, _) => {}
                }
                continue;
            }
            let part = |g: Option<&'_ [f64]>| -> Vec<f64> {
                let size = |g: &[f64]| g.len() / groups;
                g.map(|g| g[k * size(g)..(k + 1) * size(g)].to_vec()).unwrap_or_default()
            };
            let joint = joined(&part(weight), &part(bias), inverse.g.dim);
            split(&direction(inverse, &joint)?, inverse.g.dim, bias.is_some(), &mut out);
        }
        Ok(out)
    }
}

/// The rows and columns of A that are in a range.
fn restricted(a: &[f64], n: usize, columns: &Range<usize>) -> Vec<f64> {
    columns.clone().flat_map(|i| a[i * n..][columns.clone()].iter().copied()).collect()
}

/// [W | b], row by row.
fn joined(weight: &[f64], bias: &[f64], rows: usize) -> Vec<f64> {
    if bias.is_empty() || rows == 0 {
        return weight.to_vec();
    }
    let width = weight.len() / rows;
    let row = |i: usize| weight[i * width..(i + 1) * width].iter().chain(&bias[i..=i]).copied();
    (0..rows).flat_map(row).collect()
}

/// [W | b] taken apart again, appended.
fn split(joint: &[f64], rows: usize, has_bias: bool, out: &mut (Vec<f64>, Vec<f64>)) {
    let width = joint.len().checked_div(rows).unwrap_or(0);
    for row in joint.chunks_exact(width.max(1)) {
        let (weight, bias) = row.split_at(width - usize::from(has_bias));
        out.0.extend_from_slice(weight);
        out.1.extend_from_slice(bias);
    }
}
