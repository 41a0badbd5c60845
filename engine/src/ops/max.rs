//! max: the largest element along an axis.   It gets g, the first of equal ones all of it.

use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, OpSpec, Result, Sample, Shape, for_float};

/// The axis stays, with size 1.
#[derive(Debug)]
struct Max(usize);

impl<H: History> Tensor<H> {
    /// The largest element along an axis, which disappears. A NaN is larger than every number. The
    /// gradient goes to the first of equal maxima.
    ///
    /// # Errors
    /// [`Error::Axis`] when there is no such axis; [`Error::Shape`] when it has size 0.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 7.0, 5.0, 2.0], [2, 2])?;
    /// assert_eq!(x.max(1)?.to_vec::<f64>()?, [7.0, 5.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn max(&self, axis: isize) -> Result<Self> {
        let position = self.shape().axis("max", axis)?;
        self.max_keep(axis)?.reshape(self.shape().without(position))
    }

    /// The same, but the axis stays with size 1.
    ///
    /// # Errors
    /// As [`Tensor::max`].
    pub fn max_keep(&self, axis: isize) -> Result<Self> {
        let axis = self.shape().axis("max", axis)?;
        H::apply(Max(axis), &[self])
    }
}

/// The shape after the axis has been reduced to size 1.
pub(super) fn reduced(op: &'static str, shape: &Shape, axis: usize) -> Result<Shape> {
    if shape[axis] == 0 {
        let expected = format!("at least one element along axis {axis}");
        return Err(Error::shape(op, expected, &[shape]));
    }
    Ok(shape.with(axis, 1))
}

impl Op for Max {
    fn name(&self) -> &'static str {
        "max"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        reduced("max", inputs[0], self.0)
    }

    /// Saves where in the flattened input each maximum lies.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (outer, n, inner) = Shape::new(inputs[0].shape())?.around(self.0);
        let mut saved = CpuStorage::unspecified(DType::I64, outer * inner);
        let at = saved.slice_mut::<i64>();
        for_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            kernels::reduce::max_axis(x, outer, n, inner, out.slice_mut::<T>(), at);
        });
        for (i, at) in at.iter_mut().enumerate() {
            *at = (((i / inner) * n + *at as usize) * inner + i % inner) as i64;
        }
        Ok(vec![Tensor::from_cpu(saved, [outer * inner].into())])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let sizes = Shape::new(inputs[0].shape())?.around(self.0);
        let (gpu, len) = (inputs[0].gpu(), out.len());
        let mut at = CudaStorage::unspecified(gpu, DType::I64, len)?;
        let (y, places) = (out.slice_mut(), at.slice_mut());
        kernels::cuda::reduce::max(gpu, inputs[0].slice(), sizes, true, &y, &places)?;
        Ok(vec![Tensor::from_cuda(at, [len].into())])
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    /// Where the maximum lies is locally constant, so what was saved serves a recorded pass too.
    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [place] = at.saved else { return Ok(vec![None]) };
        let x = &at.inputs[0];
        let g = at.grad.reshape([at.grad.numel()])?;
        let d_x = g.scatter_add(0, &Var::constant(place), x.numel())?.reshape(x.shape())?;
        Ok(vec![Some(d_x)])
    }
}

/// Samples of a choice along the last, a middle and the only axis; one without a result.
pub(super) fn samples(call: fn(&Var, isize) -> Result<Var>) -> Vec<Sample> {
    vec![
        Sample::new(vec![sample_input([2, 3])], move |x| call(&x[0], -1)),
        Sample::new(vec![sample_input([2, 3, 2])], move |x| call(&x[0], 1)),
        Sample::new(vec![sample_input([5])], move |x| call(&x[0], 0)),
        Sample::new(vec![sample_input([0, 2])], move |x| call(&x[0], 1)),
    ]
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "max",
    samples: || {
        let mut all = samples(|x, axis| x.max(axis)?.square());
        all.extend(samples(|x, axis| x.max_keep(axis)));
        all
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tape};

    #[test]
    fn the_first_of_equal_maxima_gets_the_gradient() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::from_slice(&[1.0_f64, 3.0, 3.0, 2.0, 2.0, 0.0], [2, 3]).unwrap());
        let grads = tape.backward(&x.max(1).unwrap().sum_all().unwrap()).unwrap();
        let got = grads.of_var(&x).unwrap().to_vec::<f64>().unwrap();
        assert_eq!(got, [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn nan_wins_and_an_empty_axis_has_no_maximum() {
        let x = Tensor::from_slice(&[1.0_f32, f32::NAN, 3.0], [3]).unwrap();
        assert!(x.max(0).unwrap().item().unwrap().is_nan());
        assert!(x.min(0).unwrap().item().unwrap().is_nan());
        let empty = Tensor::zeros([2, 0], DType::F32);
        assert!(matches!(empty.max(1), Err(Error::Shape { op: "max", .. })));
        assert_eq!(*empty.max(0).unwrap().shape(), Shape::from([0]));
    }
}
