//! log_softmax: yᵢ = xᵢ − ln Σⱼ e^xⱼ along an axis.   dx = g − eʸ Σ g.

use super::softmax::{Softmax, along_last, samples};
use crate::tensor::{History, Tensor};
use crate::{OpSpec, Result};

impl<H: History> Tensor<H> {
    /// The logarithm of [`Tensor::softmax`], which stays finite where the probability itself
    /// would be rounded to 0. Where that is 0 exactly, it is −∞.
    ///
    /// # Errors
    /// As [`Tensor::softmax`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1000.0_f64, 0.0], [2])?;
    /// assert_eq!(x.log_softmax(-1)?.to_vec::<f64>()?, [0.0, -1000.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn log_softmax(&self, axis: isize) -> Result<Self> {
        let axis = self.shape().axis("log_softmax", axis)?;
        along_last(self, axis, |x| H::apply(Softmax { log: true }, &[x]))
    }
}

pub(super) const SPEC: OpSpec =
    OpSpec { name: "log_softmax", samples: || samples(|x, axis| x.log_softmax(axis)) };

#[cfg(test)]
mod tests {
    use crate::op::sample_input;

    #[test]
    fn its_exponential_is_softmax() {
        let x = sample_input([2, 3, 4]);
        for axis in 0..3 {
            let p = x.softmax(axis).unwrap().to_vec::<f64>().unwrap();
            let q = x.log_softmax(axis).unwrap().exp().unwrap().to_vec::<f64>().unwrap();
            assert!(p.iter().zip(&q).all(|(p, q)| (p - q).abs() < 1e-15), "{p:?} {q:?}");
        }
    }
}
