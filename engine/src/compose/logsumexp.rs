//! logsumexp: m + ln Σᵢ e^(xᵢ − m) with m = max x.

use crate::Result;
use crate::tensor::{History, Tensor};

impl<H: History> Tensor<H> {
    /// ln Σ eˣ along an axis, which disappears; without overflow. Its gradient is
    /// [`Tensor::softmax`].
    ///
    /// # Errors
    /// As [`Tensor::max`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1000.0_f64, 1000.0], [2])?;
    /// assert_eq!(x.logsumexp(0)?.item()?, 1000.0 + 2.0_f64.ln());
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn logsumexp(&self, axis: isize) -> Result<Self> {
        let position = self.shape().axis("logsumexp", axis)?;
        let max = self.max_keep(axis)?;
        let log_sum = self.sub(&max)?.exp()?.sum_keep(&[axis])?.log()?;
        log_sum.add(&max)?.reshape(self.shape().without(position))
    }
}

#[cfg(test)]
mod tests {
    use crate::op::sample_input;
    use crate::{Tape, gradcheck};

    #[test]
    fn its_gradient_is_softmax() {
        let tape = Tape::new();
        let x = tape.watch(sample_input([3, 4]));
        let grads = tape.backward(&x.logsumexp(1).unwrap().sum_all().unwrap()).unwrap();
        let got = grads.of_var(&x).unwrap().to_vec::<f64>().unwrap();
        let want = x.softmax(1).unwrap().to_vec::<f64>().unwrap();
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-15), "{got:?} {want:?}");
    }

    #[test]
    fn its_hessian_agrees_with_finite_differences() {
        let check =
            gradcheck::second_order(&[sample_input([2, 3])], |x| x[0].logsumexp(0)).unwrap();
        assert!(check.entries == 6 && check.error < 1e-7, "{check:?}");
    }
}
