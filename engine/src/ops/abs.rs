//! abs: y = |x|.   dy/dx = sign x (0 at x = 0).

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Abs;

impl<H: History> Tensor<H> {
    /// The absolute value, element by element.   dy/dx = sign x, 0 at x = 0.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[-2.0_f64, 3.0], [2])?;
    /// assert_eq!(x.abs()?.to_vec::<f64>()?, [2.0, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn abs(&self) -> Result<Self> {
        elementwise::apply(Abs, self)
    }
}

impl Elementwise for Abs {
    const NAME: &'static str = "abs";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["fabs(x)", "x > T(0) ? T(1) : x < T(0) ? T(-1) : x", "T(0)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.abs()
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        x.signum()
    }
    fn d2f<T: FloatElement>(self, _x: T, _y: T) -> T {
        T::ZERO
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "abs", samples: || elementwise::samples(|x| x.abs()) };
