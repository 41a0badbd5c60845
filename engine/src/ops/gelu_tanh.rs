//! gelu_tanh: y = x (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³): gelu without the error function.
//! dy/dx = (1 + t)/2 + x (1 − t²) u′/2 with t = tanh u.   Hendrycks & Gimpel 2016, section 2.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct GeluTanh;

impl<H: History> Tensor<H> {
    /// The tanh approximation of [`Tensor::gelu`], within 5·10⁻⁴ of it; GPT-2's.
    ///
    /// Hendrycks & Gimpel 2016, section 2.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[0.0_f64, 1.0], [2])?;
    /// let (y, exact) = (x.gelu_tanh()?.to_vec::<f64>()?, x.gelu()?.to_vec::<f64>()?);
    /// assert!(y[0] == 0.0 && (y[1] - exact[1]).abs() < 5e-4);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn gelu_tanh(&self) -> Result<Self> {
        elementwise::apply(GeluTanh, self)
    }
}

impl Elementwise for GeluTanh {
    const NAME: &'static str = "gelu_tanh";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["T(0.5) * floored(x) * (T(1) + gelu_tanh(x))", "T(0.5) * (T(1) + gelu_tanh(x) + bounded(x) * (T(1) - gelu_tanh(x) * gelu_tanh(x)) * gelu_tanh_slope(x))", "(T(1) - gelu_tanh(x) * gelu_tanh(x)) * (gelu_tanh_slope(x) + bounded(x) * (T(0.5) * gelu_tanh_bend(x) - gelu_tanh(x) * gelu_tanh_slope(x) * gelu_tanh_slope(x)))"];
    fn f<T: FloatElement>(self, x: T) -> T {
        let (t, _, _) = inner(x);
        T::of(0.5) * elementwise::floored(x) * (T::ONE + t)
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        let x = elementwise::bounded(x);
        let (t, du, _) = inner(x);
        T::of(0.5) * (T::ONE + t + x * (T::ONE - t * t) * du)
    }
    fn d2f<T: FloatElement>(self, x: T, _y: T) -> T {
        let x = elementwise::bounded(x);
        let (t, du, d2u) = inner(x);
        (T::ONE - t * t) * (du + x * (T::of(0.5) * d2u - t * du * du))
    }
}

/// tanh u, u′ and u″.
fn inner<T: FloatElement>(x: T) -> (T, T, T) {
    const CUBIC: f64 = 0.044_715;
    let root = FRAC_1_SQRT_2 * FRAC_2_SQRT_PI; // √(2/π)
    let square = x * x;
    let u = T::of(root) * x * (T::ONE + T::of(CUBIC) * square);
    let du = T::of(root) * (T::ONE + T::of(3.0 * CUBIC) * square);
    (u.tanh(), du, T::of(6.0 * CUBIC * root) * x)
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "gelu_tanh", samples: || elementwise::samples(|x| x.gelu_tanh()) };
