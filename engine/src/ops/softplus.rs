//! softplus: y = ln(1 + eˣ).   dy/dx = σ(x).   Dugas et al. 2001.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Softplus;

impl<H: History> Tensor<H> {
    /// y = ln(1 + eˣ), element by element, without overflow.   dy/dx = σ(x).   Dugas et al. 2001.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, 1000.0], [2])?;
    /// assert_eq!(x.softplus()?.to_vec::<f64>()?, [2.0_f64.ln(), 1000.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn softplus(&self) -> Result<Self> {
        elementwise::apply(Softplus, self)
    }
}

impl Elementwise for Softplus {
    const NAME: &'static str = "softplus";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["fmax(x, T(0)) + log1p(exp(-fabs(x)))", "sigmoid(x)", "sigmoid(x) * sigmoid(-x)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        x.max(T::ZERO) + (-x.abs()).exp().ln_1p()
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        x.sigmoid()
    }
    fn d2f<T: FloatElement>(self, x: T, _y: T) -> T {
        x.sigmoid() * (-x).sigmoid()
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "softplus", samples: || elementwise::samples(|x| x.softplus()) };
