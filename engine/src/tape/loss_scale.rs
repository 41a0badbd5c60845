//! Loss scaling: gradients that are too small for f16 are carried down the tape times a number.
//! Micikevicius et al. 2018, "Mixed Precision Training", section 3.2.

use super::{Recording, Tape};
use crate::tensor::{History, Tensor};
use crate::{Error, Result};

impl Tape {
    /// From now on, sweeps carry gradients times `scale`. Whatever is handed out, gradients and layer
    /// records, has been divided by it again: nobody else need know. With a power of two nothing is
    /// rounded by it; with a number too large for f16, gradients are not finite.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is not positive and finite.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tape, Tensor};
    /// let run = |scale: f64| -> alcyon_engine::Result<f64> {
    ///     let tape = Tape::new();
    ///     tape.scale_loss(scale)?;
    ///     let x = tape.watch(Tensor::scalar(1.0, DType::F32));
    ///     let y = x.to_dtype(DType::F16)?.relu()?.to_dtype(DType::F32)?.scale(1e-9)?;
    ///     tape.backward(&y)?.of_var(&x).unwrap().item()
    /// };
    /// assert_eq!(run(1.0)?, 0.0); // less than f16 can say
    /// assert!((run(65536.0)? / 1e-9 - 1.0).abs() < 1e-3);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn scale_loss(&self, scale: f64) -> Result<()> {
        if !(scale > 0.0 && scale.is_finite()) {
            let (op, name, expected) = ("scale_loss", "scale", "positive and finite");
            return Err(Error::Argument { op, name, expected, got: scale.to_string() });
        }
        if let Some(recording) = &self.recording {
            recording.loss_scale.set((scale != 1.0).then_some(scale));
        }
        Ok(())
    }
}

impl Recording {
    /// What a sweep starts with.
    pub(super) fn scaled<H: History>(&self, seed: Tensor<H>) -> Result<Tensor<H>> {
        match self.loss_scale.get() {
            None => Ok(seed),
            Some(scale) => seed.scale(scale),
        }
    }

    /// What a sweep hands out.
    pub(super) fn unscaled<H: History>(&self, grad: Tensor<H>) -> Result<Tensor<H>> {
        match self.loss_scale.get() {
            None => Ok(grad),
            Some(scale) => grad.scale(1.0 / scale),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LayerRecord, Parameter};

    #[test]
    fn gradients_records_and_second_derivatives_are_those_without_a_scale_bit_for_bit() {
        let w = Parameter::new(crate::op::sample_input([3, 4]));
        let run = |scale: f64| {
            let tape = Tape::new();
            tape.scale_loss(scale).unwrap();
            let x = tape.watch(crate::op::sample_input([2, 4]));
            let y = x.linear(&tape.bind(&w), None).unwrap().tanh().unwrap();
            let loss = y.square().unwrap().sum_all().unwrap();
            let mut records: Vec<LayerRecord> = Vec::new();
            let first = tape.backward_observed(&loss, &mut records).unwrap();
            let slope = tape.backward_recorded(&loss).unwrap();
            let slope = slope.of_var(&x).unwrap().square().unwrap().sum_all().unwrap();
            let second = tape.backward(&slope).unwrap();
            let all =
                [first.of(&w), first.of_var(&x), second.of(&w), Some(&records[0].output_grad)];
            all.map(|t| t.unwrap().to_vec::<f64>().unwrap())
        };
        assert_eq!(run(1.0), run(1024.0));
        for wrong in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            assert!(matches!(Tape::new().scale_loss(wrong), Err(Error::Argument { .. })));
        }
    }
}
