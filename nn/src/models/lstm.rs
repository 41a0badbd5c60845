//! A language model of LSTM layers. Zaremba, Sutskever & Vinyals 2014, "Recurrent Neural Network
//! Regularization".
//!
//! ```text
//! tokens → table → dropout → LSTM × layers, dropout between them → dropout → linear → logits
//! ```
//! Names are those of PyTorch's example `word_language_model`, where sequences stand in columns; here they
//! stand in rows.

use engine::{DType, Parameter, Result, Rng, Tensor, Var, parameters};

use super::demand;
use crate::{Dropout, Embedding, Linear, Lstm, LstmState, Module};

/// Tables and readouts start as U(−0.1, 0.1).
const BOUND: f64 = 0.1;

/// The sizes of an [`LstmModel`]. `Default` is the "medium" model of the paper, for the 10,000 words of the
/// Penn Treebank.
///
/// # Example
/// ```
/// use alcyon_nn::{Module, models::LstmConfig};
/// use engine::{Rng, Shape, Tensor};
/// let config = LstmConfig { vocabulary: 10, width: 6, hidden: 8, layers: 1, dropout: 0.5 };
/// let model = config.build(&mut Rng::new(0))?;
/// let tokens = Tensor::from_slice(&[3_i64, 1, 4, 1, 5, 9], [2, 3])?;
/// assert_eq!(*model.predict(&tokens)?.shape(), Shape::from([2, 3, 10]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LstmConfig {
    /// Tokens there are.
    pub vocabulary: usize,
    /// The width of a token.
    pub width: usize,
    /// Units of each layer.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// The probability of dropout, never along time.
    pub dropout: f64,
}

impl Default for LstmConfig {
    fn default() -> Self {
        Self { vocabulary: 10_000, width: 650, hidden: 650, layers: 2, dropout: 0.5 }
    }
}

impl LstmConfig {
    /// The model.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when a size is 0, or the dropout is outside 0 .. 1.
    pub fn build(&self, rng: &mut Rng) -> Result<LstmModel> {
        let Self { vocabulary, width, hidden, layers, dropout } = *self;
        for (name, size) in
            [("vocabulary", vocabulary), ("width", width), ("hidden", hidden), ("layers", layers)]
        {
            demand("lstm", name, size > 0, "at least 1", &size)?;
        }
        demand("lstm", "dropout", (0.0..1.0).contains(&dropout), "in 0 .. 1", &dropout)?;
        let table = |width: usize, rng: &mut Rng| {
            Parameter::new(Tensor::uniform([vocabulary, width], -BOUND, BOUND, DType::F32, rng))
        };
        let dropout = Dropout::new(dropout);
        let encoder = Embedding { weight: table(width, rng) };
        let rnn = Lstm::new(width, hidden, layers, rng).with_dropout(dropout);
        let bias = Some(Parameter::new(Tensor::zeros([vocabulary], DType::F32)));
        Ok(LstmModel {
            encoder,
            rnn,
            decoder: Linear { weight: table(hidden, rng), bias },
            dropout,
        })
    }
}

/// A language model.
///
/// # Shape
/// tokens: `[N, T]` (i64, each in 0..V) · result: `[N, T, V]`, at each position the logits of the next token
#[derive(Debug)]
pub struct LstmModel {
    /// A vector for each token.
    pub encoder: Embedding,
    /// The recurrent layers.
    pub rnn: Lstm,
    /// The readout.
    pub decoder: Linear,
    /// Before and after the recurrent layers.
    pub dropout: Dropout,
}
parameters!(LstmModel { encoder, rnn, decoder });

impl LstmModel {
    /// The logits for a text that goes on from a state ([`Lstm::start`] of `rnn`), and the state after it.
    ///
    /// # Errors
    /// As [`Lstm::forward_from`].
    pub fn forward_from(&self, tokens: &Var, state: &LstmState) -> Result<(Var, LstmState)> {
        let x = self.dropout.forward(&self.encoder.forward_at("encoder", tokens)?)?;
        let (y, after) = self.rnn.forward_from(&x, state).map_err(|e| e.in_layer("rnn"))?;
        Ok((self.decoder.forward_at("decoder", &self.dropout.forward(&y)?)?, after))
    }
}

impl Module for LstmModel {
    fn forward(&self, tokens: &Var) -> Result<Var> {
        let x = self.dropout.forward(&self.encoder.forward_at("encoder", tokens)?)?;
        let y = self.dropout.forward(&self.rnn.forward_at("rnn", &x)?)?;
        self.decoder.forward_at("decoder", &y)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Parameters, Tape};

    use super::*;

    /// 20 M: Merity, Keskar & Socher 2018, table 1, of the medium model. In full: table and readout, and in
    /// each layer 4 gates of H units, each with H inputs, H states and two biases.
    #[test]
    fn parameters_are_as_many_as_published() {
        let count = LstmConfig::default().build(&mut Rng::new(0)).unwrap().parameter_count();
        let layers = 2 * 4 * 650 * (650 + 650 + 2);
        assert_eq!(count, 10_000 * 650 + layers + (650 + 1) * 10_000);
        assert_eq!((count + 500_000) / 1_000_000, 20);
    }

    #[test]
    fn a_text_that_starts_from_zeros_gives_what_forward_gives_and_senseless_sizes_are_refused() {
        let config = LstmConfig { vocabulary: 9, width: 3, hidden: 4, ..LstmConfig::default() };
        let model = config.build(&mut Rng::new(0)).unwrap();
        let tokens = Tensor::from_slice(&[1_i64, 8, 0, 2, 2, 7], [2, 3]).unwrap();
        let tape = Tape::off();
        let start = model.rnn.start(2, DType::F32);
        let (y, _) = model.forward_from(&tape.input(tokens.clone()), &start).unwrap();
        let whole = model.predict(&tokens).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), whole);
        for config in
            [LstmConfig { layers: 0, ..config.clone() }, LstmConfig { dropout: 1.0, ..config }]
        {
            let refused = config.build(&mut Rng::new(0));
            assert!(matches!(refused, Err(Error::Argument { op: "lstm", .. })));
        }
    }
}
