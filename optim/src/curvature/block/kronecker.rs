//! One layer's Kronecker factors.

use engine::{ParamId, Result};

use crate::algebra::pattern::Pattern;
use crate::curvature::block::factor::Factor;
use crate::curvature::form::Form;

/// The curvature of one weight, and of the bias that goes with it.
///
/// # Shape
/// Of whole factors; of those that are cut, the blocks one after another, or the diagonal.
///
/// | form | a | g |
/// |---|---|---|
/// | Dense | `[groups, n, n]`, n = inputs, plus one for the bias: the last row and column | `[groups, m, m]` |
/// | Transposed | `[groups, n, n]` | `[groups, m, m]` |
/// | Lookup | `[V]`, the frequency of each index | `[D, D]` |
/// | ScaleShift | empty | `[groups, C]`: of γ, then (2 groups) of β |
/// | Joint | empty | `[P, P]`: of the weight's numbers, then the bias's |
#[derive(Debug, Clone, PartialEq)]
pub struct Kronecker {
    /// How it is written down.
    pub form: Form,
    /// Groups of a convolution; 1 for other layers but scale and shift.
    pub groups: usize,
    /// The bias that shares the block.
    pub bias: Option<ParamId>,
    /// What is kept of one A.
    pub inputs: Pattern,
    /// What is kept of one G.
    pub outputs: Pattern,
    /// E[a aᵀ]
    pub a: Vec<f64>,
    /// E[d dᵀ]
    pub g: Vec<f64>,
}

impl Kronecker {
    /// n, the size of one A; 0 when there is none.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs.size()
    }

    /// m, the size of one G.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs.size()
    }

    /// A of one group.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when there is none such.
    pub fn input_factor(&self, group: usize) -> Result<Factor<'_>> {
        Factor::new(self.inputs.clone(), part(&self.a, self.inputs.numbers(), group))
    }

    /// G of one group.
    ///
    /// # Errors
    /// As [`Kronecker::input_factor`].
    pub fn output_factor(&self, group: usize) -> Result<Factor<'_>> {
        Factor::new(self.outputs.clone(), part(&self.g, self.outputs.numbers(), group))
    }

    /// 1 at every diagonal entry of every factor, and 0 elsewhere.
    pub(crate) fn set_identity(&mut self) {
        identity(&self.inputs, &mut self.a);
        identity(&self.outputs, &mut self.g);
    }
}

/// The numbers of one group; too few of them, or none, if there are not so many groups.
fn part(values: &[f64], size: usize, group: usize) -> &[f64] {
    values.chunks(size.max(1)).nth(group).unwrap_or_default()
}

fn identity(pattern: &Pattern, values: &mut [f64]) {
    let Pattern::Blocks(sizes) = pattern else { return values.fill(1.0) };
    let mut rest = values;
    while !rest.is_empty() {
        for &size in sizes {
            let (block, tail) = rest.split_at_mut(size * size);
            block.iter_mut().step_by(size + 1).for_each(|x| *x = 1.0);
            rest = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_of_every_pattern_written_out_is_the_identity() {
        for pattern in [Pattern::whole(4), Pattern::cut(5, 1, Some(2)), Pattern::Diagonal(3)] {
            let (n, numbers) = (pattern.size(), pattern.numbers());
            let (form, groups, bias) = (Form::Dense, 2, None);
            let (a, g) = (vec![0.0; 2 * numbers], Vec::new());
            let (inputs, outputs) = (pattern, Pattern::Diagonal(0));
            let mut block = Kronecker { form, groups, bias, inputs, outputs, a, g };
            block.set_identity();
            let one: Vec<f64> = (0..n * n).map(|at| f64::from(at / n == at % n)).collect();
            for group in 0..2 {
                assert_eq!(block.input_factor(group).unwrap().to_matrix(), one);
            }
            assert!(block.input_factor(2).is_err());
        }
    }
}
