//! exp: y = eˣ.   dy/dx = y.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Exp;

impl<H: History> Tensor<H> {
    /// y = eˣ, element by element.   dy/dx = y.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, 1.0], [2])?;
    /// assert_eq!(x.exp()?.to_vec::<f64>()?, [1.0, std::f64::consts::E]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn exp(&self) -> Result<Self> {
        elementwise::apply(Exp, self)
    }
}

impl Elementwise for Exp {
    const NAME: &'static str = "exp";
    const KEEPS: Keeps = Keeps::OUTPUT;
    const CUDA: [&'static str; 3] = ["exp(x)", "y", "y"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.exp()
    }
    fn df<T: FloatElement>(self, _x: T, y: T) -> T {
        y
    }
    fn d2f<T: FloatElement>(self, _x: T, y: T) -> T {
        y
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "exp", samples: || elementwise::samples(|x| x.exp()) };
