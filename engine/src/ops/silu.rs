//! silu: y = x σ(x).   dy/dx = σ (1 + x (1 − σ)).   Elfwing, Uchibe & Doya 2018.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Silu;

impl<H: History> Tensor<H> {
    /// y = x σ(x), element by element (also called swish).   dy/dx = σ (1 + x (1 − σ)).
    /// Elfwing, Uchibe & Doya 2018.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, 3.0_f64.ln()], [2])?;
    /// let y = x.silu()?.to_vec::<f64>()?; // σ(ln 3) = 3/4
    /// assert!(y[0] == 0.0 && (y[1] - 0.75 * 3.0_f64.ln()).abs() < 1e-15);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn silu(&self) -> Result<Self> {
        elementwise::apply(Silu, self)
    }
}

impl Elementwise for Silu {
    const NAME: &'static str = "silu";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["floored(x) * sigmoid(x)", "sigmoid(x) * (T(1) + bounded(x) * (T(1) - sigmoid(x)))", "sigmoid(x) * (T(1) - sigmoid(x)) * (T(2) + bounded(x) * (T(1) - sigmoid(x) - sigmoid(x)))"];
    fn f<T: FloatElement>(self, x: T) -> T {
        elementwise::floored(x) * x.sigmoid()
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        let s = x.sigmoid();
        s * (T::ONE + elementwise::bounded(x) * (T::ONE - s))
    }
    fn d2f<T: FloatElement>(self, x: T, _y: T) -> T {
        let s = x.sigmoid();
        s * (T::ONE - s) * (T::of(2.0) + elementwise::bounded(x) * (T::ONE - s - s))
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "silu", samples: || elementwise::samples(|x| x.silu()) };
