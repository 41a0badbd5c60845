//! gelu: y = x Φ(x), with Φ(x) = (1 + erf(x/√2)) / 2.   dy/dx = Φ + x φ, φ(x) = e^(−x²/2)/√(2π).
//! Hendrycks & Gimpel 2016.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Gelu;

impl<H: History> Tensor<H> {
    /// y = x Φ(x), element by element, where Φ is the normal distribution function (by the error
    /// function; [`Tensor::gelu_tanh`] is the approximation).   dy/dx = Φ + x φ.
    /// Hendrycks & Gimpel 2016.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, 1.0], [2])?;
    /// let y = x.gelu()?.to_vec::<f64>()?;
    /// assert!(y[0] == 0.0 && (y[1] - 0.841_344_746).abs() < 1e-9); // Φ(1)
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn gelu(&self) -> Result<Self> {
        elementwise::apply(Gelu, self)
    }
}

impl Elementwise for Gelu {
    const NAME: &'static str = "gelu";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["floored(x) * normal_cdf(x)", "normal_cdf(x) + bounded(x) * normal_density(x)", "normal_density(x) * (T(2) - bounded(x) * bounded(x))"];
    fn f<T: FloatElement>(self, x: T) -> T {
        elementwise::floored(x) * cumulative(x)
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        cumulative(x) + elementwise::bounded(x) * density(x)
    }
    fn d2f<T: FloatElement>(self, x: T, _y: T) -> T {
        let x = elementwise::bounded(x);
        density(x) * (T::of(2.0) - x * x)
    }
}

/// Φ(x): the probability that a standard normal number is below x.
fn cumulative<T: FloatElement>(x: T) -> T {
    T::of(0.5) * (T::ONE + (x * T::of(FRAC_1_SQRT_2)).erf())
}

/// φ(x) = Φ′(x)
fn density<T: FloatElement>(x: T) -> T {
    T::of(0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI) * (T::of(-0.5) * x * x).exp()
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "gelu", samples: || elementwise::samples(|x| x.gelu()) };
