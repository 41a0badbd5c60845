//! sqrt: y = √x.   dy/dx = 1/(2y).

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Sqrt;

impl<H: History> Tensor<H> {
    /// The square root, element by element: NaN below 0.   dy/dx = 1/(2√x), which is ∞ at 0.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[4.0_f64, 9.0], [2])?;
    /// assert_eq!(x.sqrt()?.to_vec::<f64>()?, [2.0, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn sqrt(&self) -> Result<Self> {
        elementwise::apply(Sqrt, self)
    }
}

impl Elementwise for Sqrt {
    const NAME: &'static str = "sqrt";
    const KEEPS: Keeps = Keeps::OUTPUT;
    const CUDA: [&'static str; 3] = ["sqrt(x)", "T(0.5) / y", "T(-0.25) / (x * y)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.sqrt()
    }
    fn df<T: FloatElement>(self, _x: T, y: T) -> T {
        T::of(0.5) / y
    }
    fn d2f<T: FloatElement>(self, x: T, y: T) -> T {
        T::of(-0.25) / (x * y)
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "sqrt", samples: || elementwise::samples(|x| x.square()?.shift(0.25)?.sqrt()) };
