//! elu: y = x for x > 0, else α (eˣ − 1).   dy/dx = 1 for x > 0, else α eˣ.
//! Clevert, Unterthiner & Hochreiter 2016.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{Error, FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Elu {
    alpha: f64,
}

impl<H: History> Tensor<H> {
    /// y = x for x > 0, else α (eˣ − 1), element by element.   dy/dx = 1 for x > 0, else α eˣ.
    /// Clevert, Unterthiner & Hochreiter 2016.
    ///
    /// # Errors
    /// [`Error::Argument`] when `alpha` is not finite; [`Error::DType`] when the tensor is not
    /// floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[-1000.0_f64, 3.0], [2])?;
    /// assert_eq!(x.elu(2.0)?.to_vec::<f64>()?, [-2.0, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn elu(&self, alpha: f64) -> Result<Self> {
        if alpha.is_finite() {
            return elementwise::apply(Elu { alpha }, self);
        }
        let got = alpha.to_string();
        Err(Error::Argument { op: "elu", name: "alpha", expected: "finite", got })
    }
}

impl Elementwise for Elu {
    const NAME: &'static str = "elu";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["x > T(0) ? x : c0 * expm1(x)", "x > T(0) ? T(1) : c0 * exp(x)", "x > T(0) ? T(0) : c0 * exp(x)"];

    fn constants(self) -> [f64; 2] {
        [self.alpha, 0.0]
    }
    fn f<T: FloatElement>(self, x: T) -> T {
        if x > T::ZERO {
            return x;
        }
        // eˣ − 1 = tanh(x/2) (eˣ + 1), which keeps its digits near 0.
        T::of(self.alpha) * (x * T::of(0.5)).tanh() * (x.exp() + T::ONE)
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        if x > T::ZERO { T::ONE } else { T::of(self.alpha) * x.exp() }
    }
    fn d2f<T: FloatElement>(self, x: T, _y: T) -> T {
        if x > T::ZERO { T::ZERO } else { T::of(self.alpha) * x.exp() }
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "elu", samples: || elementwise::samples(|x| x.elu(0.7)) };
