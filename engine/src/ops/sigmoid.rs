//! sigmoid: y = 1 / (1 + e⁻ˣ).   dy/dx = y (1 − y).

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Sigmoid;

impl<H: History> Tensor<H> {
    /// The logistic function, element by element.   dy/dx = y (1 − y).
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, 3.0_f64.ln()], [2])?;
    /// let y = x.sigmoid()?.to_vec::<f64>()?; // 1 / (1 + 1/3)
    /// assert!(y[0] == 0.5 && (y[1] - 0.75).abs() < 1e-15);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn sigmoid(&self) -> Result<Self> {
        elementwise::apply(Sigmoid, self)
    }
}

impl Elementwise for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const KEEPS: Keeps = Keeps::OUTPUT;
    const CUDA: [&'static str; 3] = ["sigmoid(x)", "y * (T(1) - y)", "y * (T(1) - y) * (T(1) - y - y)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.sigmoid()
    }
    fn df<T: FloatElement>(self, _x: T, y: T) -> T {
        y * (T::ONE - y)
    }
    fn d2f<T: FloatElement>(self, _x: T, y: T) -> T {
        y * (T::ONE - y) * (T::ONE - y - y)
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "sigmoid", samples: || elementwise::samples(|x| x.sigmoid()) };
