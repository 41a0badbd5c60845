//! maximum: y = max(a, b), broadcasting.   The larger one gets g; at a tie each gets g/2.

use super::elementwise::{self, binary_samples};
use crate::op::{Keeps, Op, Saved, Site};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{FloatElement, OpSpec, Result, Shape};

#[derive(Debug)]
struct Maximum;

impl<H: History> Tensor<H> {
    /// The larger one, element by element; shapes broadcast. NaN if either is NaN.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the shapes do not broadcast.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let a = Tensor::from_slice(&[1.0_f64, 5.0], [2])?;
    /// let b = Tensor::from_slice(&[3.0_f64], [1])?;
    /// assert_eq!(a.maximum(&b)?.to_vec::<f64>()?, [3.0, 5.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn maximum(&self, other: &Self) -> Result<Self> {
        H::apply(Maximum, &[self, other])
    }
}

fn larger<T: FloatElement>(a: T, b: T) -> T {
    if a > b || a.is_nan() { a } else { b }
}

impl Op for Maximum {
    fn name(&self) -> &'static str {
        "maximum"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        elementwise::broadcast(self.name(), inputs)
    }

    fn takes_strides(&self) -> bool {
        true
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        elementwise::binary(inputs, out, larger::<f32>, larger::<f64>);
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        elementwise::cuda_pairs("maximum", "a > b || a != a ? a : b", inputs, out)
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [a, b] = at.inputs else { return Ok(Vec::new()) };
        let d_a = at.want(0, || at.grad.mul(&share(a, b)?)?.sum_to(a.shape()))?;
        let d_b = at.want(1, || at.grad.mul(&share(b, a)?)?.sum_to(b.shape()))?;
        Ok(vec![d_a, d_b])
    }
}

/// What the first argument's gradient gets of g: 1 where it is the larger one, 1/2 at a tie, else
/// 0. Locally constant, so a constant.
pub(super) fn share(a: &Var, b: &Var) -> Result<Var> {
    Ok(Var::constant(&Tensor::apply_op(Share, &[&a.value(), &b.value()])?))
}

#[derive(Debug)]
struct Share;

fn weight<T: FloatElement>(a: T, b: T) -> T {
    if a < b {
        T::ZERO
    } else if a == b {
        T::of(0.5)
    } else {
        T::ONE
    }
}

impl Op for Share {
    fn name(&self) -> &'static str {
        "maximum"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        elementwise::broadcast(self.name(), inputs)
    }

    fn takes_strides(&self) -> bool {
        true
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        elementwise::binary(inputs, out, weight::<f32>, weight::<f64>);
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let formula = "a < b ? T(0) : a == b ? T(0.5) : T(1)";
        elementwise::cuda_pairs("share of the maximum", formula, inputs, out)
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "maximum",
    // Scaled, so that there are no ties: there the derivative jumps.
    samples: || binary_samples(|a, b| a.maximum(&b.scale(-0.9)?)),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn the_winner_gets_the_gradient_and_a_tie_is_split_in_halves() {
        let of = |v: [f64; 3]| Tensor::from_slice(&v, [3]).unwrap();
        let tape = Tape::new();
        let (a, b) = (tape.watch(of([1.0, 2.0, 3.0])), tape.watch(of([3.0, 2.0, 1.0])));
        let loss = a.maximum(&b).unwrap().sum_all().unwrap();
        let grads = tape.backward(&loss).unwrap();
        let of_var = |v: &Var| grads.of_var(v).unwrap().to_vec::<f64>().unwrap();
        assert_eq!((of_var(&a), of_var(&b)), (vec![0.0, 0.5, 1.0], vec![1.0, 0.5, 0.0]));
    }

    #[test]
    fn nan_on_either_side_is_kept() {
        let of = |v: [f32; 2]| Tensor::from_slice(&v, [2]).unwrap();
        let (a, b) = (of([f32::NAN, 1.0]), of([1.0, f32::NAN]));
        assert!(a.maximum(&b).unwrap().to_vec::<f32>().unwrap().iter().all(|x| x.is_nan()));
        assert!(a.minimum(&b).unwrap().to_vec::<f32>().unwrap().iter().all(|x| x.is_nan()));
    }
}
