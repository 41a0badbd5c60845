//! cos: y = cos x.   dy/dx = −sin x.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Cos;

impl<H: History> Tensor<H> {
    /// The cosine, element by element; x in radians.   dy/dx = −sin x.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, std::f64::consts::PI], [2])?;
    /// assert_eq!(x.cos()?.to_vec::<f64>()?, [1.0, -1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn cos(&self) -> Result<Self> {
        elementwise::apply(Cos, self)
    }
}

impl Elementwise for Cos {
    const NAME: &'static str = "cos";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["cos(x)", "-sin(x)", "-y"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.cos()
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        -x.sin()
    }
    fn d2f<T: FloatElement>(self, _x: T, y: T) -> T {
        -y
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "cos", samples: || elementwise::samples(|x| x.cos()) };
