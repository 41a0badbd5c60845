//! sin: y = sin x.   dy/dx = cos x.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Sin;

impl<H: History> Tensor<H> {
    /// The sine, element by element; x in radians.   dy/dx = cos x.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, std::f64::consts::FRAC_PI_2], [2])?;
    /// assert_eq!(x.sin()?.to_vec::<f64>()?, [0.0, 1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn sin(&self) -> Result<Self> {
        elementwise::apply(Sin, self)
    }
}

impl Elementwise for Sin {
    const NAME: &'static str = "sin";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["sin(x)", "cos(x)", "-y"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.sin()
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        x.cos()
    }
    fn d2f<T: FloatElement>(self, _x: T, y: T) -> T {
        -y
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "sin", samples: || elementwise::samples(|x| x.sin()) };
