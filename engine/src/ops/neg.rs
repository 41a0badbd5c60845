//! neg: y = −x.   dy/dx = −1.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct Neg;

impl<H: History> Tensor<H> {
    /// y = −x.   dy/dx = −1.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    pub fn neg(&self) -> Result<Self> {
        elementwise::apply(Neg, self)
    }
}

impl Elementwise for Neg {
    const NAME: &'static str = "neg";
    const KEEPS: Keeps = Keeps::NOTHING;
    const CUDA: [&'static str; 3] = ["-x", "T(-1)", "T(0)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        -x
    }
    fn df<T: FloatElement>(self, _x: T, _y: T) -> T {
        -T::ONE
    }
    fn d2f<T: FloatElement>(self, _x: T, _y: T) -> T {
        T::ZERO
    }
}

pub(super) const SPEC: OpSpec = OpSpec { name: "neg", samples: || elementwise::samples(|x| x.neg()) };
