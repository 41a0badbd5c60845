//! reshape: the same elements, in row-major order, under another shape.   dx = g reshaped back.

use crate::op::{Halves, Keeps, Op, Saved, Site, View, sample_input};
use crate::storage::{CpuStorage, CpuView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, Layout, OpSpec, Result, Sample, Shape};

#[derive(Debug)]
struct Reshape(Shape);

impl<H: History> Tensor<H> {
    /// The same elements in row-major order under another shape. A view if they lie contiguously.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of elements differs; [`Error::Argument`] for a shape that no
    /// tensor can have.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        H::apply(Reshape(shape.into().checked("reshape")?), &[self])
    }

    /// Axis `axis` and all after it made one: `[N, C, H, W]` becomes `[N, C·H·W]` for axis 1.
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis.
    pub fn flatten(&self, axis: isize) -> Result<Self> {
        let axis = self.shape().axis("flatten", axis)?;
        let mut dims = self.shape()[..axis].to_vec();
        dims.push(self.shape()[axis..].iter().product());
        self.reshape(Shape::new(&dims)?)
    }
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if inputs[0].numel() == self.0.numel() {
            Ok(self.0)
        } else {
            let expected = format!("{} elements for shape {}", self.0.numel(), self.0);
            Err(Error::shape("reshape", expected, inputs))
        }
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        Ok(inputs[0])
    }

    fn view(&self, input: &Layout) -> View {
        input.reshape(self.0).map_or(View::OfContiguous, View::Of)
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
        Ok(vec![Some(at.grad.reshape(at.inputs[0].shape())?)])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "reshape",
    samples: || {
        vec![
            Sample::new(vec![sample_input([2, 6])], |x| x[0].reshape([3, 4])),
            Sample::new(vec![sample_input([2, 6])], |x| x[0].permute(&[1, 0])?.reshape([4, 3])),
            Sample::new(vec![sample_input([2, 3, 2])], |x| x[0].flatten(1)),
        ]
    },
};
