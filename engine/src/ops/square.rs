//! square: y = x².   dy/dx = 2x.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Square;

impl<H: History> Tensor<H> {
    /// y = x², element by element.   dy/dx = 2x.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[-3.0_f64, 0.5], [2])?;
    /// assert_eq!(x.square()?.to_vec::<f64>()?, [9.0, 0.25]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn square(&self) -> Result<Self> {
        elementwise::apply(Square, self)
    }
}

impl Elementwise for Square {
    const NAME: &'static str = "square";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["x * x", "x + x", "T(2)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x * x
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        x + x
    }
    fn d2f<T: FloatElement>(self, _x: T, _y: T) -> T {
        T::of(2.0)
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "square", samples: || elementwise::samples(|x| x.square()) };
