//! narrow: a run of entries of one axis.   dx = g with zeros around.

use crate::op::{Halves, Keeps, Op, Saved, Site, View, sample_input};
use crate::storage::{CpuStorage, CpuView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, Layout, OpSpec, Result, Sample, Shape};

#[derive(Debug)]
struct Narrow {
    axis: usize,
    start: usize,
    len: usize,
}

impl<H: History> Tensor<H> {
    /// Entries `start .. start + len` of an axis. A view.
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis, [`Error::Shape`] when it is too short.
    pub fn narrow(&self, axis: isize, start: usize, len: usize) -> Result<Self> {
        let axis = self.shape().axis("narrow", axis)?;
        H::apply(Narrow { axis, start, len }, &[self])
    }
}

impl Op for Narrow {
    fn name(&self) -> &'static str {
        "narrow"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let size = inputs[0][self.axis];
        if self.start.checked_add(self.len).is_none_or(|end| end > size) {
            let expected = format!("axis {} to hold {} entries from {}", self.axis, self.len, self.start);
            return Err(Error::shape("narrow", expected, inputs));
        }
        Ok(inputs[0].with(self.axis, self.len))
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        Ok(inputs[0])
    }

    fn view(&self, input: &Layout) -> View {
        View::Of(input.narrow(self.axis, self.start, self.len))
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
        let shape = at.inputs[0].shape();
        let after = shape[self.axis] - self.start - self.len;
        let zeros = |n| {
            let (device, shape) = (at.grad.device(), shape.with(self.axis, n));
            Tensor::full_on(device, shape, 0.0, at.grad.dtype()).map(|t| Var::constant(&t))
        };
        let (before, after) = (zeros(self.start)?, zeros(after)?);
        Ok(vec![Some(Var::concat(&[&before, at.grad, &after], self.axis as isize)?)])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "narrow",
    samples: || {
        vec![
            Sample::new(vec![sample_input([4, 3])], |x| x[0].narrow(0, 1, 2)),
            Sample::new(vec![sample_input([2, 5, 2])], |x| x[0].narrow(1, 0, 3)),
            Sample::new(vec![sample_input([2, 3])], |x| x[0].narrow(-1, 3, 0)),
        ]
    },
};
