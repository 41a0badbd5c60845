//! relu: y = max(x, 0).   dy/dx = 1 for x > 0, else 0 (0 at x = 0).   Nair & Hinton 2010.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Relu;

impl<H: History> Tensor<H> {
    /// y = max(x, 0).   dy/dx = 1 for x > 0, else 0 (0 at x = 0).   Nair & Hinton 2010.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    pub fn relu(&self) -> Result<Self> {
        elementwise::apply(Relu, self)
    }
}

impl Elementwise for Relu {
    const NAME: &'static str = "relu";
    const KEEPS: Keeps = Keeps::OUTPUT;
    const CUDA: [&'static str; 3] = ["x <= T(0) ? T(0) : x", "y > T(0) ? T(1) : T(0)", "T(0)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        // Not `max`: a NaN must stay one.
        if x <= T::ZERO { T::ZERO } else { x }
    }
    fn df<T: FloatElement>(self, _x: T, y: T) -> T {
        // y is positive where x is, and is what the tape keeps.
        if y > T::ZERO { T::ONE } else { T::ZERO }
    }
    fn d2f<T: FloatElement>(self, _x: T, _y: T) -> T {
        T::ZERO
    }
}

pub(super) const SPEC: OpSpec = OpSpec { name: "relu", samples: || elementwise::samples(|x| x.relu()) };
