//! Long short-term memory: a state that gates keep, write and read.

use engine::parameter::{Member, MemberMut, join};
use engine::{DType, Error, Parameter, Parameters, Result, Rng, Tensor, Var};

use crate::{Dropout, Module, init};

/// Some layers of LSTM, one above the other, run along a sequence.
///
/// ```text
/// i, f, g, o = W_ih xₜ + b_ih + W_hh hₜ₋₁ + b_hh      four gates, H numbers each
/// cₜ = σ(f) ∘ cₜ₋₁ + σ(i) ∘ tanh(g)
/// hₜ = σ(o) ∘ tanh(cₜ)
/// ```
/// The inputs of all steps go through W_ih in one layer record; W_hh leaves a record for each step.
///
/// # Shape
/// weight_ih_l0: `[4 H, in]` (`[4 H, H]` above) · weight_hh_l0: `[4 H, H]` · biases: `[4 H]` ·
/// x: `[N, T, in]` · result: `[N, T, H]`, the states h of the last layer
///
/// # Source
/// Hochreiter & Schmidhuber 1997, with the forget gates of Gers et al. 2000; names, order of the gates and
/// both biases as PyTorch's `nn.LSTM` with `batch_first=True`.
///
/// # Example
/// ```
/// use alcyon_nn::{Lstm, Module};
/// use engine::{DType, Parameters, Rng, Shape, Tensor};
/// let lstm = Lstm::new(3, 4, 2, &mut Rng::new(0));
/// assert_eq!(lstm.parameters()[4].0, "weight_ih_l1");
/// let y = lstm.predict(&Tensor::zeros([5, 7, 3], DType::F32))?;
/// assert_eq!(*y.shape(), Shape::from([5, 7, 4]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Lstm {
    layers: Vec<Cell>,
    /// Between layers; none at first.
    pub dropout: Dropout,
}

#[derive(Debug)]
struct Cell {
    weight_ih: Parameter,
    weight_hh: Parameter,
    bias_ih: Parameter,
    bias_hh: Parameter,
}

/// What an [`Lstm`] remembers of a sequence: h and c of every layer, `[N, H]` each. Tensors, which carry no
/// gradient: a text that is longer than a batch is trained in pieces.
#[derive(Debug, Clone)]
pub struct LstmState {
    /// (h, c) of each layer.
    pub layers: Vec<(Tensor, Tensor)>,
}

impl Lstm {
    /// Layers of `hidden` units; all starts as U(−1/√H, 1/√H).
    #[must_use]
    pub fn new(inputs: usize, hidden: usize, layers: usize, rng: &mut Rng) -> Self {
        let cell = |layer| {
            let width = if layer == 0 { inputs } else { hidden };
            let mut draw =
                |shape: engine::Shape| Parameter::new(init::fan_in_uniform(shape, hidden, rng));
            Cell {
                weight_ih: draw([4 * hidden, width].into()),
                weight_hh: draw([4 * hidden, hidden].into()),
                bias_ih: draw([4 * hidden].into()),
                bias_hh: draw([4 * hidden].into()),
            }
        };
        Self { layers: (0..layers).map(cell).collect(), dropout: Dropout::new(0.0) }
    }

    /// The same layers with dropout between them.
    #[must_use]
    pub fn with_dropout(self, dropout: Dropout) -> Self {
        Self { dropout, ..self }
    }

    /// The state before a sequence: zeros.
    #[must_use]
    pub fn start(&self, examples: usize, dtype: DType) -> LstmState {
        let zeros = |cell: &Cell| {
            let zeros = Tensor::zeros([examples, cell.units()], dtype);
            (zeros.clone(), zeros)
        };
        LstmState { layers: self.layers.iter().map(zeros).collect() }
    }

    /// The outputs for a sequence that goes on from a state, and the state after it.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input is no sequence, or the state is of another model or batch.
    pub fn forward_from(&self, x: &Var, state: &LstmState) -> Result<(Var, LstmState)> {
        if x.rank() != 3 || x.shape()[1] == 0 || state.layers.len() != self.layers.len() {
            let expected =
                format!("x [N, T, in], T > 0, and a state of {} layers", self.layers.len());
            return Err(Error::shape("lstm", expected, &[x.shape()]));
        }
        let (mut x, mut after) = (x.clone(), Vec::new());
        for (i, (cell, before)) in self.layers.iter().zip(&state.layers).enumerate() {
            if i > 0 {
                x = self.dropout.forward(&x)?;
            }
            let (y, last) = cell.run(&x, before).map_err(|e| e.in_layer(&format!("l{i}")))?;
            x = y;
            after.push(last);
        }
        Ok((x, LstmState { layers: after }))
    }
}

impl Module for Lstm {
    fn forward(&self, x: &Var) -> Result<Var> {
        let examples = x.shape().first().copied().unwrap_or(0);
        let mut start = self.start(examples, x.dtype());
        for (h, c) in &mut start.layers {
            (*h, *c) = (h.to_device(x.device())?, c.to_device(x.device())?);
        }
        Ok(self.forward_from(x, &start)?.0)
    }
}

impl Cell {
    fn units(&self) -> usize {
        self.bias_ih.value().numel() / 4
    }

    fn run(&self, x: &Var, before: &(Tensor, Tensor)) -> Result<(Var, (Tensor, Tensor))> {
        let tape = x.tape()?;
        let [examples, steps, _] = **x.shape() else { return Ok((x.clone(), before.clone())) };
        let expected = engine::Shape::from([examples, self.units()]);
        if *before.0.shape() != expected || *before.1.shape() != expected {
            let got = [before.0.shape(), before.1.shape()];
            return Err(Error::shape("lstm", format!("h and c {expected}"), &got));
        }
        let inputs = x.linear(&tape.bind(&self.weight_ih), Some(&tape.bind(&self.bias_ih)))?;
        let (weight, bias) = (tape.bind(&self.weight_hh), tape.bind(&self.bias_hh));
        let (mut h, mut c) = (tape.input(before.0.clone()), tape.input(before.1.clone()));
        let mut states = Vec::new();
        for t in 0..steps {
            let input = inputs.narrow(1, t, 1)?.reshape([examples, 4 * self.units()])?;
            let gates = input.add(&h.linear(&weight, Some(&bias))?)?.chunk(4, 1)?;
            let [i, f, g, o] = &gates[..] else { continue };
            c = f.sigmoid()?.mul(&c)?.add(&i.sigmoid()?.mul(&g.tanh()?)?)?;
            h = o.sigmoid()?.mul(&c.tanh()?)?;
            states.push(h.clone());
        }
        let y = Var::stack(&states.iter().collect::<Vec<_>>(), 1)?;
        Ok((y, (h.value(), c.value())))
    }
}

impl Parameters for Lstm {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        for (i, cell) in self.layers.iter().enumerate() {
            let Cell { weight_ih, weight_hh, bias_ih, bias_hh } = cell;
            for (name, p) in NAMES.iter().zip([weight_ih, weight_hh, bias_ih, bias_hh]) {
                out.push((join(at, &format!("{name}_l{i}")), Member::Parameter(p)));
            }
        }
    }

    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        for (i, cell) in self.layers.iter_mut().enumerate() {
            let Cell { weight_ih, weight_hh, bias_ih, bias_hh } = cell;
            for (name, p) in NAMES.iter().zip([weight_ih, weight_hh, bias_ih, bias_hh]) {
                out.push((join(at, &format!("{name}_l{i}")), MemberMut::Parameter(p)));
            }
        }
    }
}

const NAMES: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];

#[cfg(test)]
mod tests {
    use engine::{LayerRecord, Tape};

    use super::*;

    fn sequence() -> Tensor {
        Tensor::normal([2, 5, 3], 0.0, 1.0, DType::F32, &mut Rng::new(1))
    }

    #[test]
    fn a_sequence_in_two_pieces_gives_what_it_gives_in_one() {
        let lstm = Lstm::new(3, 4, 2, &mut Rng::new(0));
        let x = sequence();
        let whole = lstm.predict(&x).unwrap().to_vec::<f32>().unwrap();
        let tape = Tape::off();
        let piece = |from, len, state: &LstmState| {
            let x = tape.input(x.narrow(1, from, len).unwrap());
            lstm.forward_from(&x, state).unwrap()
        };
        let (first, state) = piece(0, 2, &lstm.start(2, DType::F32));
        let (second, _) = piece(2, 3, &state);
        let joined = Var::concat(&[&first, &second], 1).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(joined, whole);
    }

    #[test]
    fn the_inputs_leave_one_record_and_the_states_one_a_step() {
        let lstm = Lstm::new(3, 4, 1, &mut Rng::new(0));
        let tape = Tape::new();
        let y = lstm.forward(&tape.input(sequence())).unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        let grads = tape.backward_observed(&y.sum_all().unwrap(), &mut records).unwrap();
        assert_eq!(grads.len(), 4);
        let of = |p: &Parameter| records.iter().filter(|r| r.weight == p.id()).count();
        assert_eq!((of(&lstm.layers[0].weight_ih), of(&lstm.layers[0].weight_hh)), (1, 5));
    }

    #[test]
    fn a_state_of_another_batch_or_model_and_no_sequence_are_refused() {
        let lstm = Lstm::new(3, 4, 1, &mut Rng::new(0));
        let tape = Tape::off();
        let x = tape.input(sequence());
        let mut empty = lstm.start(2, DType::F32);
        let other = lstm.forward_from(&x, &lstm.start(3, DType::F32)).unwrap_err();
        assert!(other.to_string().starts_with("l0: lstm: expected h and c [2, 4]"), "{other}");
        empty.layers.clear();
        assert!(matches!(lstm.forward_from(&x, &empty), Err(Error::Shape { op: "lstm", .. })));
        let flat = lstm.predict(&Tensor::zeros([2, 3], DType::F32));
        assert!(matches!(flat, Err(Error::Shape { op: "lstm", .. })));
    }
}
