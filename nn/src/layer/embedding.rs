//! y = W\[token\]: a row for each token.

use engine::{DType, Parameter, Result, Rng, Tensor, Var, parameters};

use crate::Module;

/// A table of vectors, looked up by index. To tie a readout to it, use `embedding.weight` there.
///
/// # Shape
/// weight: `[V, D]` · tokens: `[..]` (i64, each in 0..V) · result: `[.., D]`
///
/// # Example
/// ```
/// use alcyon_nn::{Embedding, Module};
/// use engine::{Parameter, Rng, Tensor};
/// let mut table = Embedding::new(3, 1, &mut Rng::new(0));
/// table.weight = Parameter::new(Tensor::from_slice(&[10.0_f32, 11.0, 12.0], [3, 1])?);
/// let y = table.predict(&Tensor::from_slice(&[2_i64, 0, 2], [3])?)?;
/// assert_eq!(y.to_vec::<f32>()?, [12.0, 10.0, 12.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Embedding {
    /// `[V, D]`
    pub weight: Parameter,
}
parameters!(Embedding { weight });

impl Embedding {
    /// V rows of D numbers from N(0, 1).
    #[must_use]
    pub fn new(vocabulary: usize, width: usize, rng: &mut Rng) -> Self {
        let rows = Tensor::normal([vocabulary, width], 0.0, 1.0, DType::F32, rng);
        Self { weight: Parameter::new(rows) }
    }
}

impl Module for Embedding {
    fn forward(&self, tokens: &Var) -> Result<Var> {
        tokens.embedding(&tokens.tape()?.bind(&self.weight))
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Shape, Tape};

    use super::*;

    #[test]
    fn the_gradient_of_a_row_counts_its_uses() {
        let table = Embedding::new(4, 2, &mut Rng::new(0));
        let tape = Tape::new();
        let tokens = tape.input(Tensor::from_slice(&[1_i64, 3, 1, 1], [2, 2]).unwrap());
        let y = table.forward(&tokens).unwrap();
        assert_eq!(*y.shape(), Shape::from([2, 2, 2]));
        let grads = tape.backward(&y.sum_all().unwrap()).unwrap();
        let counts = grads.of(&table.weight).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(counts, [0.0, 0.0, 3.0, 3.0, 0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_refused() {
        let table = Embedding::new(4, 2, &mut Rng::new(0));
        let got = table.predict(&Tensor::from_slice(&[0_i64, 4], [2]).unwrap());
        assert!(matches!(got, Err(Error::Index { index: 4, at: 1, bound: 4, .. })));
    }
}
