//! log: y = ln x.   dy/dx = 1/x.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Log;

impl<H: History> Tensor<H> {
    /// The natural logarithm, element by element: NaN below 0, −∞ at 0.   dy/dx = 1/x.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, std::f64::consts::E], [2])?;
    /// assert_eq!(x.log()?.to_vec::<f64>()?, [0.0, 1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn log(&self) -> Result<Self> {
        elementwise::apply(Log, self)
    }
}

impl Elementwise for Log {
    const NAME: &'static str = "log";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["log(x)", "T(1) / x", "T(-1) / (x * x)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.ln()
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        T::ONE / x
    }
    fn d2f<T: FloatElement>(self, x: T, _y: T) -> T {
        -T::ONE / (x * x)
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "log", samples: || elementwise::samples(|x| x.square()?.shift(0.25)?.log()) };
