//! sum: y = c Σ x over some axes, with c = 1, or 1 / count for the mean.   dx = c g repeated along them.

use kernels::reduce::scaled_sum_axis;

use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

/// The sum over some axes, which stay with size 1, times a number; rounded once.
#[derive(Debug)]
struct Sum {
    /// In ascending order, at least one.
    axes: Vec<usize>,
    /// 1, or 1 / count for a mean.
    scale: f64,
}

impl<H: History> Tensor<H> {
    /// The sum over the given axes, which disappear.
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis; [`Error::Argument`] when one is named twice.
    pub fn sum(&self, axes: &[isize]) -> Result<Self> {
        let kept = self.sum_keep(axes)?;
        if axes.is_empty() { Ok(kept) } else { kept.reshape(remaining("sum", self.shape(), axes)?) }
    }

    /// The sum over the given axes, which stay with size 1.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn sum_keep(&self, axes: &[isize]) -> Result<Self> {
        self.reduced("sum", axes, |_| 1.0)
    }

    /// The sum of all elements: a scalar.
    ///
    /// # Errors
    /// [`Error::DType`] when the tensor is not floating point.
    pub fn sum_all(&self) -> Result<Self> {
        self.sum(&all(self.rank()))
    }

    /// The mean over the given axes, which disappear. Over no elements it is NaN. The sum is carried in
    /// f64, or on a GPU at least in f32, and scaled before it is rounded: it may be larger than any number
    /// of the dtype.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tensor};
    /// let ones = Tensor::ones([70_000], DType::F16); // up to 65,504
    /// assert_eq!(ones.mean(&[0])?.item()?, 1.0);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn mean(&self, axes: &[isize]) -> Result<Self> {
        let kept = self.mean_keep(axes)?;
        if axes.is_empty() { Ok(kept) } else { kept.reshape(remaining("mean", self.shape(), axes)?) }
    }

    /// The mean over the given axes, which stay with size 1.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn mean_keep(&self, axes: &[isize]) -> Result<Self> {
        self.reduced("mean", axes, |count| 1.0 / count as f64)
    }

    /// The mean of all elements: a scalar.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn mean_all(&self) -> Result<Self> {
        self.mean(&all(self.rank()))
    }

    fn reduced(&self, op: &'static str, axes: &[isize], scale: fn(usize) -> f64) -> Result<Self> {
        let mut axes = positions(op, self.shape(), axes)?;
        axes.sort_unstable();
        if axes.is_empty() {
            return Ok(self.clone());
        }
        let count = axes.iter().map(|&axis| self.shape()[axis]).product();
        H::apply(Sum { axes, scale: scale(count) }, &[self])
    }
}

fn all(rank: usize) -> Vec<isize> {
    (0..rank as isize).collect()
}

/// The shape without the given axes.
pub(super) fn remaining(op: &'static str, shape: &Shape, axes: &[isize]) -> Result<Shape> {
    let gone = positions(op, shape, axes)?;
    let rest = (0..shape.rank()).filter(|axis| !gone.contains(axis));
    Shape::new(&rest.map(|axis| shape[axis]).collect::<Vec<_>>())
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

impl Sum {
    /// The steps of the sum: runs of neighbouring axes are one axis to the kernel, and the last run goes
    /// first. For each, what is seen as `[outer, n, inner]`, and what it is scaled with.
    fn steps(&self, shape: &[usize]) -> Vec<((usize, usize, usize), f64)> {
        let (mut dims, mut axes) = (shape.to_vec(), self.axes.clone());
        let mut steps = Vec::new();
        while let Some(last) = axes.pop() {
            let mut first = last;
            while axes.last().is_some_and(|&axis| axis + 1 == first) {
                first -= 1;
                axes.pop();
            }
            let size = |part: &[usize]| part.iter().product::<usize>();
            let run = (size(&dims[..first]), size(&dims[first..=last]), size(&dims[last + 1..]));
            dims[first..=last].fill(1);
            steps.push((run, if axes.is_empty() { self.scale } else { 1.0 }));
        }
        steps
    }
}

/// Runs the steps of a sum one after the other; what lies between two of them is f64.
fn steps<T: FloatElement>(x: &[T], steps: &[((usize, usize, usize), f64)], out: &mut [T]) {
    let mut before: Option<kernels::Buffer<f64>> = None;
    for (i, &(sizes, scale)) in steps.iter().enumerate() {
        if i + 1 == steps.len() {
            return match before {
                Some(x) => scaled_sum_axis(&x, sizes, scale, out),
                None => scaled_sum_axis(x, sizes, scale, out),
            };
        }
        let mut sums = kernels::Buffer::<f64>::unspecified(sizes.0 * sizes.2);
        match before {
            Some(x) => scaled_sum_axis(&x, sizes, scale, &mut sums),
            None => scaled_sum_axis(x, sizes, scale, &mut sums),
        }
        before = Some(sums);
    }
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        if self.scale == 1.0 { "sum" } else { "mean" }
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(self.axes.iter().fold(*inputs[0], |shape, &axis| shape.with(axis, 1)))
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let all = self.steps(inputs[0].shape());
        for_float!(inputs[0].dtype(), T => steps::<T>(inputs[0].slice(), &all, out.slice_mut()));
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        use kernels::cuda::reduce::sum;
        let gpu = inputs[0].gpu();
        let mut before: Option<CudaStorage> = None;
        let steps = self.steps(inputs[0].shape());
        for (i, &(sizes, scale)) in steps.iter().enumerate() {
            let x = before.as_ref().map_or_else(|| inputs[0].slice(), CudaStorage::slice);
            if i + 1 == steps.len() {
                sum(gpu, x, sizes, scale, &out.slice_mut())?;
                break;
            }
            let dtype = inputs[0].dtype().computed_in();
            let mut sums = CudaStorage::unspecified(gpu, dtype, sizes.0 * sizes.2)?;
            sum(gpu, x, sizes, scale, &sums.slice_mut())?;
            before = Some(sums);
        }
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let share = if self.scale == 1.0 { at.grad.clone() } else { at.grad.scale(self.scale)? };
        Ok(vec![Some(share.broadcast_to(at.inputs[0].shape())?)])
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
            Sample::new(vec![sample_input([2, 3, 2, 2])], |x| x[0].mean(&[0, 2])),
            Sample::new(vec![sample_input([2, 3])], |x| x[0].mean_all()?.square()),
            Sample::new(vec![sample_input([2, 0])], |x| x[0].sum(&[1])),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    const HALVES: [DType; 2] = [DType::F16, DType::BF16];

    #[test]
    fn means_of_sixteen_bits_are_scaled_before_they_are_rounded() {
        for dtype in HALVES {
            let ones = Tensor::ones([70_000], dtype);
            assert_eq!(ones.mean_all().unwrap().item().unwrap(), 1.0);
            let rows = Tensor::full([300, 7, 400], 50.0, dtype);
            let mean = rows.mean(&[0, 2]).unwrap();
            assert_eq!(mean.to_f64_vec().unwrap(), [50.0; 7], "{dtype}");
        }
    }

    #[test]
    fn a_sum_over_axes_that_are_no_neighbours_is_rounded_once() {
        // 40,000 + 40,000 is beyond f16, and so is each part of the way; the whole is 0.
        let signs = |i: usize| if i < 4 { 40_000.0 } else { -40_000.0 };
        let x = Tensor::from_fn([2, 2, 2], DType::F16, signs);
        assert_eq!(x.sum(&[0, 2]).unwrap().to_f64_vec().unwrap(), [0.0, 0.0]);
        let tenth = Tensor::full([1000, 3, 1000], 0.1, DType::F32);
        let want = (1e6 * f64::from(0.1_f32)) as f32;
        assert_eq!(tenth.sum(&[0, 2]).unwrap().to_vec::<f32>().unwrap(), [want; 3]);
    }

    #[test]
    fn the_gradient_of_a_mean_is_its_share() {
        let tape = crate::Tape::new();
        let x = tape.watch(sample_input([2, 5]));
        let grads = tape.backward(&x.mean_all().unwrap()).unwrap();
        assert_eq!(grads.of_var(&x).unwrap().to_vec::<f64>().unwrap(), [0.1; 10]);
    }
}
