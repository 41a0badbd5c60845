//! hard_sigmoid: y = min(max(x/6 + 1/2, 0), 1).   dy/dx = 1/6 for −3 < x < 3, else 0.
//! Courbariaux, Bengio & David 2015; the slope of Howard et al. 2019.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result};

#[derive(Debug, Clone, Copy)]
struct HardSigmoid;

impl<H: History> Tensor<H> {
    /// y = min(max(x/6 + 1/2, 0), 1), element by element: the sigmoid of MobileNetV3, without
    /// exponentials.   dy/dx = 1/6 for −3 < x < 3, else 0.   Howard et al. 2019.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[-4.0_f64, 0.0, 1.5, 4.0], [4])?;
    /// assert_eq!(x.hard_sigmoid()?.to_vec::<f64>()?, [0.0, 0.5, 0.75, 1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn hard_sigmoid(&self) -> Result<Self> {
        elementwise::apply(HardSigmoid, self)
    }
}

impl Elementwise for HardSigmoid {
    const NAME: &'static str = "hard_sigmoid";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["x <= T(-3) ? T(0) : x >= T(3) ? T(1) : x / T(6) + T(0.5)", "fabs(x) < T(3) ? T(1.0 / 6.0) : T(0)", "T(0)"];
    fn f<T: FloatElement>(self, x: T) -> T {
        let three = T::of(3.0);
        if x <= -three {
            T::ZERO
        } else if x >= three {
            T::ONE
        } else {
            (x + three) / T::of(6.0)
        }
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        if x.abs() < T::of(3.0) { T::of(1.0 / 6.0) } else { T::ZERO }
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "hard_sigmoid",
    samples: || elementwise::samples(|x| x.scale(2.1)?.hard_sigmoid()),
};
