//! powf: y = xᵖ for a number p.   dy/dx = p xᵖ⁻¹.

use super::elementwise::{self, Elementwise};
use crate::op::Keeps;
use crate::tensor::{History, Tensor};
use crate::{FloatElement, OpSpec, Result, Sample};

#[derive(Debug, Clone, Copy)]
struct Powf(f64);

impl<H: History> Tensor<H> {
    /// Every element to the power `p`: NaN for negative elements unless p is an integer, 1 for
    /// p = 0.   dy/dx = p xᵖ⁻¹.
    ///
    /// # Errors
    /// [`Error::DType`](crate::Error::DType) when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[4.0_f64, 9.0], [2])?;
    /// assert_eq!(x.powf(1.5)?.to_vec::<f64>()?, [8.0, 27.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn powf(&self, p: f64) -> Result<Self> {
        elementwise::apply(Powf(p), self)
    }
}

impl Elementwise for Powf {
    const NAME: &'static str = "powf";
    const KEEPS: Keeps = Keeps::INPUTS;
    const CUDA: [&'static str; 3] = ["pow(x, c0)", "c0 == T(0) ? T(0) : c0 * pow(x, c0 - T(1))", "c0 * (c0 - T(1)) == T(0) ? T(0) : c0 * (c0 - T(1)) * pow(x, c0 - T(2))"];

    fn constants(self) -> [f64; 2] {
        [self.0, 0.0]
    }
    fn f<T: FloatElement>(self, x: T) -> T {
        x.powf(T::of(self.0))
    }
    fn df<T: FloatElement>(self, x: T, _y: T) -> T {
        term(self.0, x, self.0 - 1.0)
    }
    fn d2f<T: FloatElement>(self, x: T, _y: T) -> T {
        term(self.0 * (self.0 - 1.0), x, self.0 - 2.0)
    }
}

/// c xᵖ, which is 0 for c = 0 even where xᵖ is infinite.
fn term<T: FloatElement>(c: f64, x: T, p: f64) -> T {
    if c == 0.0 { T::ZERO } else { T::of(c) * x.powf(T::of(p)) }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "powf",
    samples: || {
        let mut all: Vec<Sample> = Vec::new();
        all.extend(elementwise::samples(|x| x.square()?.shift(0.25)?.powf(-1.5)));
        all.extend(elementwise::samples(|x| x.powf(3.0)));
        all.extend(elementwise::samples(|x| x.powf(1.0)));
        all.extend(elementwise::samples(|x| x.powf(0.0)));
        all
    },
};

#[cfg(test)]
mod tests {
    use crate::{Tape, Tensor};

    #[test]
    fn small_integer_powers_have_finite_gradients_at_zero() {
        for (p, want) in [(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)] {
            let tape = Tape::new();
            let x = tape.watch(Tensor::from_slice(&[0.0_f64], [1]).unwrap());
            let grads = tape.backward(&x.powf(p).unwrap()).unwrap();
            assert_eq!(grads.of_var(&x).unwrap().item().unwrap(), want, "x to the {p}");
        }
    }
}
