//! contiguous: the same elements, row-major without gaps.   dx = g.

use crate::op::{Halves, Keeps, Op, Saved, Site, View, sample_input};
use crate::storage::{CpuStorage, CpuView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Layout, OpSpec, Result, Sample, Shape};

#[derive(Debug)]
struct Contiguous;

impl<H: History> Tensor<H> {
    /// The same elements lying row-major without gaps; the tensor itself if they do already.
    ///
    /// # Errors
    /// None in practice; copying is an op.
    pub fn contiguous(&self) -> Result<Self> {
        if self.layout().is_contiguous() { Ok(self.clone()) } else { H::apply(Contiguous, &[self]) }
    }
}

impl Op for Contiguous {
    fn name(&self) -> &'static str {
        "contiguous"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        Ok(inputs[0])
    }

    /// A view of the contiguous copy that every op may ask for.
    fn view(&self, input: &Layout) -> View {
        if input.is_contiguous() { View::Of(*input) } else { View::OfContiguous }
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
        Ok(vec![Some(at.grad.clone())])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "contiguous",
    samples: || {
        vec![Sample::new(vec![sample_input([2, 3])], |x| x[0].transpose(0, 1)?.contiguous())]
    },
};
