//! recip: y = 1/x.   dy/dx = −y².

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Recip;

impl<H: History> Tensor<H> {
    /// The reciprocal, element by element: ±∞ at ±0.   dy/dx = −1/x².
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[4.0_f64, -0.5], [2])?;
    /// assert_eq!(x.recip()?.to_vec::<f64>()?, [0.25, -2.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn recip(&self) -> Result<Self> {
        elementwise::apply(Recip, self)
    }
}

impl Elementwise for Recip {
    const NAME: &'static str = "recip";
    const KEEPS: Keeps = Keeps::OUTPUT;
    const CUDA: [&'static str; 3] = ["T(1) / x", "-(y * y)", "T(2) * y * y * y"];
    fn f<T: FloatElement>(self, x: T) -> T {
        T::ONE / x
    }
    fn df<T: FloatElement>(self, _x: T, y: T) -> T {
        -(y * y)
    }
    fn d2f<T: FloatElement>(self, _x: T, y: T) -> T {
        T::of(2.0) * y * y * y
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "recip", samples: || elementwise::samples(|x| x.recip()) };
