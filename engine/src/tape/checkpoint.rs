//! Activation checkpoints: parts of a forward pass that are computed twice and held never.
//! Griewank & Walther 2000; Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".

use super::Tape;
use crate::Result;

impl Tape {
    /// Runs a part of the forward pass and drops what it computed, but for what it returns. When a
    /// sweep comes to it, it is run again from its inputs, with the same random numbers, and dropped
    /// again after. Gradients and layer records are the same, bit for bit; the memory is that of the
    /// largest part in place of their sum, the price one more forward pass. Of a part within a part,
    /// the outer one counts.
    ///
    /// # Errors
    /// Those of `part`.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Tape, Tensor};
    /// let tape = Tape::new();
    /// let x = tape.watch(Tensor::from_slice(&[0.5_f64, 1.0], [2])?);
    /// let y = tape.checkpoint(|| x.exp()?.sin()?.exp())?;
    /// let grads = tape.backward(&y.sum_all()?)?;
    /// let (dx, e) = (grads.of_var(&x).unwrap().to_vec::<f64>()?, 0.5_f64.exp());
    /// assert!((dx[0] - e.sin().exp() * e.cos() * e).abs() < 1e-15);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn checkpoint<T>(&self, part: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = self.len();
        let outermost = self.recording.as_ref().filter(|r| r.open.get().is_none());
        if let Some(recording) = outermost {
            recording.open.set(Some(start));
        }
        let result = part();
        if let Some(recording) = outermost {
            recording.open.set(None);
        }
        let result = result?;
        if let Some(recording) = &self.recording {
            let records = start..self.len();
            recording.release(records.clone(), &[]);
            let mut checkpoints = recording.checkpoints.borrow_mut();
            checkpoints.retain(|inner| inner.start < start);
            checkpoints.push(records);
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, LayerRecord, Result, Tape, Tensor, Var, op::sample_input};

    /// Two blocks of conv, norm, dropout and relu between inputs and a loss; returns the gradients
    /// and the layer records.
    fn run(checkpointed: bool, once: bool) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
        let tape = Tape::training(3);
        let x = tape.watch(sample_input([2, 5]));
        let weights: Vec<crate::Parameter> =
            (0..2).map(|_| crate::Parameter::new(sample_input([5, 5]))).collect();
        let block = |h: &Var, w: &crate::Parameter| -> Result<Var> {
            h.linear(&tape.bind(w), None)?
                .layer_norm(None, None, 1e-5)?
                .dropout(0.5)?
                .tanh()?
                .mul(h)
        };
        let mut h = x.exp().unwrap();
        for w in &weights {
            let next = || block(&h, w);
            h = if checkpointed { tape.checkpoint(next) } else { next() }.unwrap();
        }
        let loss = h.square().unwrap().sum_all().unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        let seed = Tensor::ones((), DType::F64);
        tape.sweep(&loss, seed, &mut Vec::<LayerRecord>::new()).unwrap(); // it can be swept again
        let grads = if once {
            tape.backward_once(&loss, Some(&mut records)).unwrap()
        } else {
            tape.backward_observed(&loss, &mut records).unwrap()
        };
        let bits = |t: &Tensor| -> Vec<u64> {
            t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect()
        };
        let mut all: Vec<Vec<u64>> = weights.iter().map(|w| bits(grads.of(w).unwrap())).collect();
        all.push(bits(grads.of_var(&x).unwrap()));
        (all, records.iter().flat_map(|r| [bits(&r.input), bits(&r.output_grad)]).collect())
    }

    #[test]
    fn checkpoints_and_freeing_change_neither_gradients_nor_layer_records() {
        let plain = run(false, false);
        assert_eq!(plain.1.len(), 4, "two layers were observed");
        for (checkpointed, once) in [(true, false), (false, true), (true, true)] {
            assert_eq!(run(checkpointed, once), plain, "{checkpointed} {once}");
        }
    }

    #[test]
    fn a_checkpoint_holds_nothing_and_can_be_differentiated_twice() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::from_slice(&[0.3_f64], [1]).unwrap());
        let part = |x: &Var| x.sin()?.exp()?.log()?.mul(x);
        let y = tape.checkpoint(|| part(&x)).unwrap();
        assert_eq!(tape.memory(None).bytes(), 8, "x alone");
        // y = x sin x; y'' = 2 cos x − x sin x.
        let dy = tape.backward_recorded(&y.sum_all().unwrap()).unwrap();
        let ddy = tape.backward(&dy.of_var(&x).unwrap().sum_all().unwrap()).unwrap();
        let got = ddy.of_var(&x).unwrap().to_vec::<f64>().unwrap()[0];
        let expected = 2.0 * 0.3_f64.cos() - 0.3 * 0.3_f64.sin();
        assert!((got - expected).abs() < 1e-14, "{got} and {expected}");
    }

    #[test]
    fn a_checkpoint_holds_what_comes_into_it_when_nobody_else_does() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::from_slice(&[0.5_f64, -1.0], [2]).unwrap());
        // Neither the first op's output nor the second one's input is kept by their rules.
        let y = x.scale(2.0).unwrap();
        let z = tape.checkpoint(|| y.shift(1.0)?.exp()).unwrap();
        let grads = tape.backward(&z.sum_all().unwrap()).unwrap();
        let expected = [2.0 * 2.0_f64.exp(), 2.0 * (-1.0_f64).exp()];
        let got = grads.of_var(&x).unwrap().to_vec::<f64>().unwrap();
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{got:?}");
    }

    #[test]
    fn an_inner_checkpoint_is_part_of_the_outer_one() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::full([2], 0.5, DType::F64));
        let y = tape.checkpoint(|| tape.checkpoint(|| x.exp()?.exp())?.sin()).unwrap();
        let grads = tape.backward(&y.sum_all().unwrap()).unwrap();
        let e = 0.5_f64.exp();
        let expected = e.exp().cos() * e.exp() * e;
        assert!((grads.of_var(&x).unwrap().to_vec::<f64>().unwrap()[0] - expected).abs() < 1e-14);
    }
}
