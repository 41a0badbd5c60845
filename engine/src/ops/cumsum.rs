//! cumsum: yⱼ = Σ over i ≤ j of xᵢ along an axis.   dxᵢ = Σ over j ≥ i of gⱼ: the same from the end.

use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{Element, FloatElement, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct Cumsum {
    axis: usize,
    from_the_end: bool,
}

impl<H: History> Tensor<H> {
    /// Running sums along an axis: each element with all that come before it. They are carried in f64.
    ///
    /// # Errors
    /// [`Error::Axis`](crate::Error::Axis) when there is no such axis;
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0], [2, 2])?;
    /// assert_eq!(x.cumsum(1)?.to_vec::<f64>()?, [1.0, 3.0, 3.0, 7.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn cumsum(&self, axis: isize) -> Result<Self> {
        let axis = self.shape().axis("cumsum", axis)?;
        H::apply(Cumsum { axis, from_the_end: false }, &[self])
    }
}

impl Op for Cumsum {
    fn name(&self) -> &'static str {
        "cumsum"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (_, n, inner) = Shape::new(inputs[0].shape())?.around(self.axis);
        for_float!(inputs[0].dtype(), T => {
            running::<T>(inputs[0].slice(), n, inner, self.from_the_end, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let sizes = Shape::new(inputs[0].shape())?.around(self.axis);
        let (gpu, x) = (inputs[0].gpu(), inputs[0].slice());
        kernels::cuda::along::running(gpu, x, sizes, self.from_the_end, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let back = Self { axis: self.axis, from_the_end: !self.from_the_end };
        Ok(vec![Some(Var::apply_op(back, &[at.grad])?)])
    }
}

/// Running sums over n rows of `inner` numbers each, for every block of such rows. They are carried in f64:
/// each is as near as one rounding allows, however long the axis is.
fn running<T: FloatElement>(x: &[T], n: usize, inner: usize, backwards: bool, out: &mut [T]) {
    kernels::parallel::rows(out, n * inner, n * inner, |block, out| {
        let x = &x[block * n * inner..(block + 1) * n * inner];
        let mut sums = kernels::Buffer::<f64>::zeros(inner);
        for j in 0..n {
            let row = if backwards { n - 1 - j } else { j } * inner;
            let row = row..row + inner;
            for ((sum, &x), y) in sums.iter_mut().zip(&x[row.clone()]).zip(&mut out[row]) {
                *sum += Element::to_f64(x);
                *y = T::from_f64(*sum);
            }
        }
    });
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "cumsum",
    samples: || {
        let sample =
            |x: Shape, axis| Sample::new(vec![sample_input(x)], move |x| x[0].cumsum(axis));
        vec![
            sample([2, 3].into(), 0),
            sample([2, 3, 2].into(), 1),
            sample([4].into(), -1),
            sample([2, 0].into(), 1),
            Sample::new(vec![sample_input([2, 3])], |x| x[0].transpose(0, 1)?.cumsum(0)?.square()),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_the_sum_and_their_differences_are_the_elements() {
        let x = sample_input([3, 5, 2]);
        let y = x.cumsum(1).unwrap();
        let part = |x: &Tensor, from, n| x.narrow(1, from, n).unwrap();
        let close = |a: &Tensor, b: &Tensor| {
            let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
            assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14));
        };
        close(&part(&y, 4, 1), &x.sum_keep(&[1]).unwrap());
        close(&part(&y, 1, 4).sub(&part(&y, 0, 4)).unwrap(), &part(&x, 1, 4));
    }

    #[test]
    fn a_running_sum_does_not_stop_counting_where_f32_does() {
        let n = 10_000_000;
        let x = Tensor::full([n], 0.1, crate::DType::F32);
        let all = x.cumsum(0).unwrap().to_vec::<f32>().unwrap();
        for i in [1 << 20, 1 << 23, n - 1] {
            assert_eq!(all[i], ((i + 1) as f64 * f64::from(0.1_f32)) as f32, "{i}");
        }
        assert_eq!(all[n - 1], 1_000_000.0);
    }
}
