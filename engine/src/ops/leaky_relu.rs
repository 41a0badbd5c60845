//! leaky_relu: y = x for x > 0, else slope · x.   dy/dx = 1 for x > 0, else slope.
//! Maas, Hannun & Ng 2013.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{Error, FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct LeakyRelu {
    slope: f64,
}

impl<H: History> Tensor<H> {
    /// y = x for x > 0, else slope · x, element by element.   dy/dx = 1 for x > 0, else slope.
    /// Maas, Hannun & Ng 2013.
    ///
    /// # Errors
    /// [`Error::Argument`] when `slope` is not finite; [`Error::DType`] when the tensor is not
    /// floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[-2.0_f64, 3.0], [2])?;
    /// assert_eq!(x.leaky_relu(0.25)?.to_vec::<f64>()?, [-0.5, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn leaky_relu(&self, slope: f64) -> Result<Self> {
        if slope.is_finite() {
            return elementwise::apply(LeakyRelu { slope }, self);
        }
        let got = slope.to_string();
        Err(Error::Argument { op: "leaky_relu", name: "slope", expected: "finite", got })
    }
}

impl Elementwise for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["x > T(0) ? x : c0 * x", "x > T(0) ? T(1) : c0", "T(0)"];

    fn constants(self) -> [f64; 2] {
        [self.slope, 0.0]
    }
    fn f<T: FloatElement>(self, x: T) -> T {
        if x > T::ZERO { x } else { T::of(self.slope) * x }
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        if x > T::ZERO { T::ONE } else { T::of(self.slope) }
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "leaky_relu", samples: || elementwise::samples(|x| x.leaky_relu(0.1)) };
