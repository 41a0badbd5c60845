//! broadcast_to: repeats axes of size 1 (and missing leading axes).   dx = sum over the repeats.

use crate::op::{Halves, Keeps, Op, Saved, Site, View, sample_input};
use crate::storage::{CpuStorage, CpuView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, Layout, OpSpec, Result, Sample, Shape};

#[derive(Debug)]
struct BroadcastTo(Shape);

impl<H: History> Tensor<H> {
    /// The tensor repeated to a shape that its own broadcasts to. A view: nothing is copied.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shape does not broadcast to it.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape == *self.shape() { Ok(self.clone()) } else { H::apply(BroadcastTo(shape), &[self]) }
    }

    /// Sums over the axes that broadcasting to this shape from `shape` would have repeated: its
    /// adjoint.
    ///
    /// # Errors
    /// [`Error::Shape`] when `shape` does not broadcast to this tensor's.
    pub fn sum_to(&self, shape: &Shape) -> Result<Self> {
        if shape == self.shape() {
            return Ok(self.clone());
        }
        if shape.broadcast(self.shape()) != Some(*self.shape()) {
            return Err(Error::shape("sum_to", format!("a shape that {shape} broadcasts to"), &[self.shape()]));
        }
        let new_axes = self.rank() - shape.rank();
        let repeated = |&i: &usize| i < new_axes || (shape[i - new_axes] == 1 && self.shape()[i] != 1);
        let axes: Vec<isize> = (0..self.rank()).filter(repeated).map(|i| i as isize).collect();
        self.sum(&axes)?.reshape(shape)
    }
}

impl Op for BroadcastTo {
    fn name(&self) -> &'static str {
        "broadcast_to"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if inputs[0].broadcast(&self.0) == Some(self.0) {
            Ok(self.0)
        } else {
            Err(Error::shape("broadcast_to", format!("a shape that broadcasts to {}", self.0), inputs))
        }
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        Ok(inputs[0])
    }

    fn view(&self, input: &Layout) -> View {
        View::Of(input.broadcast_to(self.0))
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
        Ok(vec![Some(at.grad.sum_to(at.inputs[0].shape())?)])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "broadcast_to",
    samples: || {
        vec![
            Sample::new(vec![sample_input([3, 1])], |x| x[0].broadcast_to([2, 3, 4])),
            Sample::new(vec![sample_input(())], |x| x[0].broadcast_to([2])),
            Sample::new(vec![sample_input([1, 2])], |x| x[0].broadcast_to([0, 2])),
        ]
    },
};
