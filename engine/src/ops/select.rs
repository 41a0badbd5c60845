//! select: y = a where the condition is not 0, else b, broadcasting.   Each gets g where it was
//! chosen.

use crate::op::{Keeps, Op, Saved, Site, expect_dtype, same_float, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, OpSpec, Result, Sample, Shape, for_float};

/// Of three equal shapes.
#[derive(Debug)]
struct Select;

impl<H: History> Tensor<H> {
    /// Where this tensor is not 0 the element of `a`, else that of `b`; the three shapes
    /// broadcast.
    ///
    /// # Shape
    /// condition: i64, what [`Tensor::greater`] and its like return · a, b: floating point
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not broadcast, [`Error::DType`] when this tensor is not
    /// i64.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let condition = Tensor::from_slice(&[1_i64, 0], [2])?;
    /// let a = Tensor::from_slice(&[10.0_f32, 20.0], [2])?;
    /// let b = Tensor::from_slice(&[-1.0_f32], [1])?;
    /// assert_eq!(condition.select(&a, &b)?.to_vec::<f32>()?, [10.0, -1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn select(&self, a: &Self, b: &Self) -> Result<Self> {
        let shapes = [self.shape(), a.shape(), b.shape()];
        let both = shapes[1].broadcast(shapes[2]);
        let Some(shape) = both.and_then(|both| both.broadcast(shapes[0])) else {
            return Err(Error::shape("select", "three shapes that broadcast", &shapes));
        };
        let all = |x: &Self| x.broadcast_to(shape);
        H::apply(Select, &[&all(self)?, &all(a)?, &all(b)?])
    }
}

impl Op for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        expect_dtype("select", inputs[0], DType::I64)?;
        same_float("select", &inputs[1..])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let condition = inputs[0].slice::<i64>();
        for_float!(inputs[1].dtype(), T => {
            let (a, b) = (inputs[1].slice::<T>(), inputs[2].slice::<T>());
            let choose = |c: i64, a: T, b: T| if c != 0 { a } else { b };
            kernels::elementwise::map3(condition, a, b, out.slice_mut::<T>(), choose);
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let [condition, a, b] = [0, 1, 2].map(|i| inputs[i].slice());
        kernels::cuda::strided::choose(inputs[0].gpu(), condition, a, b, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let condition = &at.inputs[0];
        let zero = Var::constant(&Tensor::full_on(at.grad.device(), (), 0.0, at.grad.dtype())?);
        let d_a = at.want(1, || condition.select(at.grad, &zero))?;
        let d_b = at.want(2, || condition.select(&zero, at.grad))?;
        Ok(vec![None, d_a, d_b])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "select",
    samples: || {
        let mask = |shape: Shape| Tensor::from_fn(shape, DType::I64, |i| (i % 3) as f64 - 1.0);
        let inputs = |c: Shape, a: Shape, b: Shape| vec![mask(c), sample_input(a), sample_input(b)];
        let call = |x: &[Var]| x[0].select(&x[1], &x[2].scale(-2.0)?);
        vec![
            Sample::new(inputs([2, 3].into(), [2, 3].into(), [2, 3].into()), call),
            Sample::new(inputs([3].into(), [2, 1].into(), ().into()), call),
            Sample::new(inputs([0, 3].into(), [3].into(), [1, 3].into()), call),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn what_is_not_chosen_gets_no_gradient_not_even_from_an_infinite_one() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::from_slice(&[-1.0_f64, 4.0], [2]).unwrap());
        let zero = tape.input(Tensor::scalar(0.0, DType::F64));
        let safe = x.greater(&zero).unwrap().select(&x, &zero).unwrap();
        let loss = x.greater(&zero).unwrap().select(&safe.sqrt().unwrap(), &zero).unwrap();
        assert_eq!(loss.to_vec::<f64>().unwrap(), [0.0, 2.0]);
        let grads = tape.backward(&loss.sum_all().unwrap());
        let got = grads.unwrap().of_var(&x).unwrap().to_vec::<f64>().unwrap();
        assert_eq!(got, [0.0, 0.25]);
    }
}
