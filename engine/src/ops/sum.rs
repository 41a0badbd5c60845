//! sum: the sum over some axes.   dx = g repeated along them.

use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, OpSpec, Result, Sample, Shape, for_float};

/// The sum over one axis of the tensor seen as `[outer, n, inner]`; the axis stays, with size 1.
#[derive(Debug)]
struct Sum {
    axis: usize,
    count: usize,
}

impl<H: History> Tensor<H> {
    /// The sum over the given axes, which disappear.
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis; [`Error::Argument`] when one is named twice.
    pub fn sum(&self, axes: &[isize]) -> Result<Self> {
        let kept = self.sum_keep(axes)?;
        let gone = positions("sum", self.shape(), axes)?;
        let dims: Vec<usize> =
            (0..self.rank()).filter(|i| !gone.contains(i)).map(|i| self.shape()[i]).collect();
        if gone.is_empty() { Ok(kept) } else { kept.reshape(Shape::new(&dims)?) }
    }

    /// The sum over the given axes, which stay with size 1.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn sum_keep(&self, axes: &[isize]) -> Result<Self> {
        let mut axes = positions("sum", self.shape(), axes)?;
        axes.sort_unstable();
        let mut total = self.clone();
        // LOOP: runs of neighbouring axes are one axis to the kernel; the last run goes first.
        while let Some(last) = axes.pop() {
            let mut first = last;
            while axes.last().is_some_and(|&a| a + 1 == first) {
                first -= 1;
                axes.pop();
            }
            total = H::apply(Sum { axis: first, count: last - first + 1 }, &[&total])?;
        }
        Ok(total)
    }

    /// The sum of all elements: a scalar.
    ///
    /// # Errors
    /// [`Error::DType`] when the tensor is not floating point.
    pub fn sum_all(&self) -> Result<Self> {
        let axes: Vec<isize> = (0..self.rank() as isize).collect();
        self.sum(&axes)
    }
}

/// The axes as positions, each at most once.
pub(crate) fn positions(op: &'static str, shape: &Shape, axes: &[isize]) -> Result<Vec<usize>> {
    let found: Vec<usize> = axes.iter().map(|&a| shape.axis(op, a)).collect::<Result<_>>()?;
    let twice = (1..found.len()).any(|i| found[..i].contains(&found[i]));
    if twice {
        return Err(Error::Argument {
            op,
            name: "axes",
            expected: "each axis at most once",
            got: format!("{axes:?}"),
        });
    }
    Ok(found)
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let one = |shape: Shape, i| shape.with(i, 1);
        Ok((self.axis..self.axis + self.count).fold(*inputs[0], one))
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let dims = inputs[0].shape();
        let size = |range: std::ops::Range<usize>| dims[range].iter().product::<usize>();
        let end = self.axis + self.count;
        let (outer, n, inner) = (size(0..self.axis), size(self.axis..end), size(end..dims.len()));
        for_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            kernels::reduce::sum_axis(x, outer, n, inner, out.slice_mut::<T>());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let dims = inputs[0].shape();
        let size = |range: std::ops::Range<usize>| dims[range].iter().product::<usize>();
        let end = self.axis + self.count;
        let sizes = (size(0..self.axis), size(self.axis..end), size(end..dims.len()));
        kernels::cuda::reduce::sum(inputs[0].gpu(), inputs[0].slice(), sizes, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Ok(vec![Some(at.grad.broadcast_to(at.inputs[0].shape())?)])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "sum",
    samples: || {
        vec![
            Sample::new(vec![sample_input([2, 3, 4])], |x| x[0].sum(&[1])),
            Sample::new(vec![sample_input([2, 3, 4])], |x| x[0].sum_keep(&[0, -1])),
            Sample::new(vec![sample_input([2, 3, 4])], |x| x[0].sum(&[2, 1])),
            Sample::new(vec![sample_input([2, 3])], |x| x[0].sum_all()),
            Sample::new(vec![sample_input([2, 0])], |x| x[0].sum(&[1])),
        ]
    },
};
