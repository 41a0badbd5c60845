//! permute: axes in another order.   dx = g with the inverse order.

use crate::op::{Halves, Keeps, Op, Saved, Site, View, sample_input};
use crate::storage::{CpuStorage, CpuView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, Layout, OpSpec, Result, Sample, Shape};

#[derive(Debug)]
struct Permute(Vec<usize>);

impl<H: History> Tensor<H> {
    /// Axis `i` of the result is axis `order[i]` of this tensor. A view.
    ///
    /// # Errors
    /// [`Error::Argument`] when `order` is not a permutation of the axes.
    pub fn permute(&self, order: &[isize]) -> Result<Self> {
        let shape = self.shape();
        let order: Vec<usize> =
            order.iter().map(|&axis| shape.axis("permute", axis)).collect::<Result<_>>()?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..shape.rank()) {
            return Err(Error::Argument {
                op: "permute",
                name: "order",
                expected: "a permutation of the axes",
                got: format!("{order:?} for shape {shape}"),
            });
        }
        H::apply(Permute(order), &[self])
    }

    /// Two axes exchanged. A view.
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Self> {
        let (a, b) = (self.shape().axis("transpose", a)?, self.shape().axis("transpose", b)?);
        let mut order: Vec<isize> = (0..self.rank() as isize).collect();
        order.swap(a, b);
        self.permute(&order)
    }
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*Layout::contiguous(*inputs[0]).permute(&self.0).shape())
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        Ok(inputs[0])
    }

    fn view(&self, input: &Layout) -> View {
        View::Of(input.permute(&self.0))
    }

    fn cpu(&self, _inputs: &[CpuView<'_>], _out: &mut CpuStorage) -> Result<Saved> {
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::Moved
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let mut inverse = vec![0; self.0.len()];
        for (i, &from) in self.0.iter().enumerate() {
            inverse[from] = i as isize;
        }
        Ok(vec![Some(at.grad.permute(&inverse)?)])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "permute",
    samples: || {
        vec![
            Sample::new(vec![sample_input([2, 3, 4])], |x| x[0].permute(&[2, 0, 1])),
            Sample::new(vec![sample_input([2, 3])], |x| x[0].transpose(-1, 0)),
        ]
    },
};
