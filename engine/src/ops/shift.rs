//! shift: y = x + c for a number c.   dy/dx = 1.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Shift(f64);

impl<H: History> Tensor<H> {
    /// Every element plus a number (rounded to the dtype).
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    pub fn shift(&self, offset: f64) -> Result<Self> {
        elementwise::apply(Shift(offset), self)
    }
}

impl Elementwise for Shift {
    const NAME: &'static str = "shift";
    const KEEPS: Keeps = Keeps::NOTHING;
    const CUDA: [&'static str; 3] = ["x + c0", "T(1)", "T(0)"];

    fn constants(self) -> [f64; 2] {
        [self.0, 0.0]
    }
    fn f<T: FloatElement>(self, x: T) -> T {
        x + T::of(self.0)
    }
    fn df<T: FloatElement>(self, _x: T, _y: T) -> T {
        T::ONE
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "shift", samples: || elementwise::samples(|x| x.shift(0.75)) };
