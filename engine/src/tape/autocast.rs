//! Autocast: products in 16 bits, on a tape of f32 parameters. Micikevicius et al. 2018, "Mixed Precision
//! Training". (Decision 0042.)

use super::{Recording, Tape};
use crate::op::Op;
use crate::tensor::Var;
use crate::{DType, Error, Result};

impl Tape {
    /// Runs a part of the forward pass in which products (`matmul`, `linear`, the convolutions,
    /// `attention`) get their f32 inputs rounded to a 16-bit dtype. The casts are records, so gradients
    /// come back in f32 and parameters stay f32; a layer's record is that of its parameter. All other
    /// ops take what comes: 16 bits where all is, f32 where some is.
    ///
    /// Losses belong outside, on outputs that are cast back: `y.to_dtype(DType::F32)`. Inputs in f64 are
    /// left alone. An off tape does not know what is done with its values, so there nothing is cast.
    ///
    /// # Errors
    /// [`Error::DType`] for a dtype that is not 16-bit; those of `part`.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Parameter, Tape, Tensor};
    /// let weight = Parameter::new(Tensor::from_slice(&[1.0_f32, 0.001], [1, 2])?);
    /// let tape = Tape::new();
    /// let x = tape.input(Tensor::from_slice(&[1.0_f32, 1.0], [1, 2])?);
    /// let y = tape.autocast(DType::BF16, || x.linear(&tape.bind(&weight), None))?;
    /// assert_eq!(y.dtype(), DType::BF16);
    /// assert_eq!(y.item()?, 1.0); // 1.001 is nearer to 1 than to 1 + 1/128
    /// let gradients = tape.backward(&y.to_dtype(DType::F32)?.sum_all()?)?;
    /// assert_eq!(gradients.of(&weight).unwrap().to_vec::<f32>()?, [1.0, 1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn autocast<T>(&self, dtype: DType, part: impl FnOnce() -> Result<T>) -> Result<T> {
        if !dtype.is_half() {
            let expected = "f16 or bf16".into();
            return Err(Error::DType { op: "autocast", expected, got: dtype });
        }
        let Some(recording) = &self.recording else { return part() };
        recording.casting(Some(dtype), part)
    }
}

impl Recording {
    /// Runs something under another setting, which ends with it.
    pub(super) fn casting<T>(
        &self,
        dtype: Option<DType>,
        part: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let outer = self.autocast.replace(dtype);
        let result = part();
        self.autocast.set(outer);
        result
    }

    /// What an op gets in place of its inputs, if anything else than those.
    pub(super) fn cast(&self, op: &dyn Op, inputs: &[&Var]) -> Result<Option<Vec<Var>>> {
        let Some(half) = self.autocast.get() else { return Ok(None) };
        let is = |dtype| inputs.iter().any(|x| x.dtype() == dtype);
        let ours = |d: DType| !d.is_float() || d == DType::F32 || d == half;
        if !is(DType::F32) || !inputs.iter().all(|x| ours(x.dtype())) {
            return Ok(None);
        }
        let dtype = match (op.is_product(), is(half)) {
            (true, _) => half,
            (false, true) => DType::F32,
            (false, false) => return Ok(None),
        };
        let cast =
            |x: &&Var| if x.dtype().is_float() { x.to_dtype(dtype) } else { Ok((*x).clone()) };
        inputs.iter().map(cast).collect::<Result<_>>().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LayerObserver, LayerRecord, ParamId, Parameter, Tensor};

    /// Records of layers, and parameters used elsewhere.
    #[derive(Default)]
    struct Seen(Vec<LayerRecord>, Vec<&'static str>);

    impl LayerObserver for Seen {
        fn observe(&mut self, record: &LayerRecord) -> Result<()> {
            self.0.push(record.clone());
            Ok(())
        }
        fn unlayered(&mut self, _param: ParamId, op: &'static str) -> Result<()> {
            self.1.push(op);
            Ok(())
        }
    }

    fn parameter(shape: [usize; 2]) -> Parameter {
        let value = crate::op::sample_input(shape).to_dtype(DType::F32).unwrap();
        Parameter::new(value)
    }

    fn vec(t: &Tensor) -> Vec<f64> {
        t.to_f64_vec().unwrap()
    }

    #[test]
    fn a_layer_in_sixteen_bits_is_recorded_as_its_parameters_with_the_rounded_numbers() {
        for dtype in [DType::F16, DType::BF16] {
            let (w, v) = (parameter([3, 4]), parameter([2, 3]));
            let tape = Tape::new();
            let x = tape.input(crate::op::sample_input([5, 4]).to_dtype(DType::F32).unwrap());
            let forward = || {
                let h = x.linear(&tape.bind(&w), None)?.relu()?;
                assert_eq!(h.dtype(), dtype);
                h.linear(&tape.bind(&v), None)
            };
            let y = tape.autocast(dtype, forward).unwrap().to_dtype(DType::F32).unwrap();
            let loss = y.square().unwrap().mean_all().unwrap();
            let mut seen = Seen::default();
            let gradients = tape.backward_observed(&loss, &mut seen).unwrap();
            assert!(seen.1.is_empty(), "used elsewhere: {:?}", seen.1);
            let ids: Vec<ParamId> = seen.0.iter().map(|record| record.weight).collect();
            assert_eq!(ids, [v.id(), w.id()]);
            for (record, p) in seen.0.iter().zip([&v, &w]) {
                assert_eq!(record.input.dtype(), DType::F32);
                let rounded = record.input.to_dtype(dtype).unwrap();
                assert_eq!(vec(&rounded), vec(&record.input), "what the layer saw is 16-bit");
                let g = gradients.of(p).unwrap();
                assert_eq!(g.dtype(), DType::F32);
                let rows = record.rows().unwrap()[0].gradient().unwrap();
                assert_eq!(vec(&rows.to_dtype(dtype).unwrap()), vec(g));
            }
            // A sweep for layers alone gives no gradients of parameters, cast or not.
            let seed = Tensor::ones((), DType::F32);
            let none = tape.sweep(&loss, seed, &mut Seen::default()).unwrap();
            assert!(none.is_empty());
        }
    }

    #[test]
    fn a_cast_parameter_that_is_used_outside_of_a_layer_is_said_so() {
        let w = parameter([3, 3]);
        let tape = Tape::new();
        let y = tape.autocast(DType::BF16, || tape.bind(&w).matmul(&tape.bind(&w))).unwrap();
        let loss = y.to_dtype(DType::F32).unwrap().sum_all().unwrap();
        let mut seen = Seen::default();
        tape.backward_observed(&loss, &mut seen).unwrap();
        assert_eq!((seen.0.len(), seen.1), (0, vec!["matmul", "matmul"]));
    }

    #[test]
    fn what_is_no_product_takes_what_comes_and_f32_where_some_is() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::ones([2, 2], DType::F32));
        tape.autocast(DType::F16, || {
            assert_eq!(x.relu()?.dtype(), DType::F32);
            let y = x.matmul(&x)?;
            assert_eq!((y.dtype(), y.relu()?.dtype()), (DType::F16, DType::F16));
            assert_eq!(y.add(&x)?.dtype(), DType::F32);
            assert_eq!(y.layer_norm(None, None, 1e-5)?.dtype(), DType::F16);
            let wide = tape.watch(Tensor::ones([2, 2], DType::F64));
            assert_eq!(wide.matmul(&wide)?.dtype(), DType::F64);
            assert!(matches!(wide.matmul(&x), Err(Error::DType { op: "matmul", .. })));
            // A sweep inside casts nothing by itself.
            let gradients = tape.backward_recorded(&y.to_dtype(DType::F32)?.sum_all()?)?;
            assert_eq!(gradients.of_var(&x).map(|g| g.dtype()), Some(DType::F32));
            Ok(())
        })
        .unwrap();
        assert_eq!(x.matmul(&x).unwrap().dtype(), DType::F32, "the setting ends with the part");
        let failed = tape.autocast(DType::F16, || x.narrow(0, 7, 1));
        assert!(failed.is_err() && x.matmul(&x).unwrap().dtype() == DType::F32);
        assert!(matches!(tape.autocast(DType::F32, || Ok(())), Err(Error::DType { .. })));
    }

    #[test]
    fn a_checkpoint_under_autocast_gives_the_same_gradients() {
        let w = parameter([4, 4]);
        let run = |checkpointed: bool| {
            let tape = Tape::new();
            let x = tape.watch(crate::op::sample_input([3, 4]).to_dtype(DType::F32).unwrap());
            let block = |h: &Var| h.scale(0.5)?.linear(&tape.bind(&w), None)?.tanh();
            let y = tape.autocast(DType::BF16, || {
                let mut h = x.scale(2.0)?;
                for _ in 0..2 {
                    let part = || block(&h);
                    h = if checkpointed { tape.checkpoint(part)? } else { part()? };
                }
                h.to_dtype(DType::F32)
            });
            let grads = tape.backward(&y.unwrap().sum_all().unwrap()).unwrap();
            [vec(grads.of(&w).unwrap()), vec(grads.of_var(&x).unwrap())]
        };
        assert_eq!(run(true), run(false));
    }
}
