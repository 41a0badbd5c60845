//! scale: y = c·x for a number c.   dy/dx = c.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Scale(f64);

impl<H: History> Tensor<H> {
    /// Every element times a number (rounded to the dtype).
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    pub fn scale(&self, factor: f64) -> Result<Self> {
        elementwise::apply(Scale(factor), self)
    }
}

impl Elementwise for Scale {
    const NAME: &'static str = "scale";
    const KEEPS: Keeps = Keeps::NOTHING;
    const CUDA: [&'static str; 3] = ["c0 * x", "c0", "T(0)"];

    fn constants(self) -> [f64; 2] {
        [self.0, 0.0]
    }
    fn f<T: FloatElement>(self, x: T) -> T {
        T::of(self.0) * x
    }
    fn df<T: FloatElement>(self, _x: T, _y: T) -> T {
        T::of(self.0)
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "scale", samples: || elementwise::samples(|x| x.scale(-1.5)) };
