//! relu6: y = min(max(x, 0), 6).   dy/dx = 1 for 0 < x < 6, else 0.   Krizhevsky 2010.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Relu6;

impl<H: History> Tensor<H> {
    /// y = min(max(x, 0), 6), element by element.   dy/dx = 1 for 0 < x < 6, else 0.   Krizhevsky 2010.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[-1.0_f64, 2.0, 7.0], [3])?;
    /// assert_eq!(x.relu6()?.to_vec::<f64>()?, [0.0, 2.0, 6.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn relu6(&self) -> Result<Self> {
        elementwise::apply(Relu6, self)
    }
}

impl Elementwise for Relu6 {
    const NAME: &'static str = "relu6";
    const KEEPS: Keeps = Keeps::OUTPUT;
    const CUDA: [&'static str; 3] = ["x <= T(0) ? T(0) : x >= T(6) ? T(6) : x", "y > T(0) && y < T(6) ? T(1) : T(0)", "T(0)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        // Not `max` and `min`: a NaN must stay one.
        if x <= T::ZERO {
            T::ZERO
        } else if x >= T::of(6.0) {
            T::of(6.0)
        } else {
            x
        }
    }
    fn df<T: FloatElement>(self, _x: T, y: T) -> T {
        if y > T::ZERO && y < T::of(6.0) { T::ONE } else { T::ZERO }
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "relu6", samples: || elementwise::samples(|x| x.scale(3.7)?.relu6()) };
