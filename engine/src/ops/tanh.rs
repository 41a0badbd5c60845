//! tanh: y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ).   dy/dx = 1 − y².

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Tanh;

impl<H: History> Tensor<H> {
    /// The hyperbolic tangent, element by element.   dy/dx = 1 − y².
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, 3.0_f64.ln()], [2])?;
    /// let y = x.tanh()?.to_vec::<f64>()?; // (3 − 1/3) / (3 + 1/3)
    /// assert!(y[0] == 0.0 && (y[1] - 0.8).abs() < 1e-15);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn tanh(&self) -> Result<Self> {
        elementwise::apply(Tanh, self)
    }
}

impl Elementwise for Tanh {
    const NAME: &'static str = "tanh";
    const KEEPS: Keeps = Keeps::OUTPUT;
    const CUDA: [&'static str; 3] = ["tanh(x)", "T(1) - y * y", "T(-2) * y * (T(1) - y * y)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.tanh()
    }
    fn df<T: FloatElement>(self, _x: T, y: T) -> T {
        T::ONE - y * y
    }
    fn d2f<T: FloatElement>(self, _x: T, y: T) -> T {
        T::of(-2.0) * y * (T::ONE - y * y)
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "tanh", samples: || elementwise::samples(|x| x.tanh()) };
