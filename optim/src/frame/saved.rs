//! Reading a saved state: every entry is asked for by name, and what nobody asked for is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use engine::{DType, Error, Parameter, Parameters, Result, Shape, Tensor};

use crate::State;

/// A saved state while it is being read. Optimizers read everything into new values, call
/// [`Saved::close`], and only then replace their own: so a wrong state changes nothing.
#[derive(Debug)]
pub(crate) struct Saved {
    numbers: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
    known: BTreeSet<String>,
}

impl Saved {
    /// Begins; the state has to be the optimizer's own.
    pub(crate) fn open(optimizer: &str, state: &State) -> Result<Self> {
        if state.optimizer != optimizer {
            return Err(Error::Unknown {
                what: "optimizer of a saved state",
                got: state.optimizer.clone(),
                known: vec![optimizer.to_owned()],
            });
        }
        Ok(Self {
            numbers: state.numbers.clone(),
            tensors: state.tensors.clone(),
            known: BTreeSet::new(),
        })
    }

    /// A number that has to be there.
    pub(crate) fn number<N: FromStr>(&mut self, key: &str) -> Result<N> {
        self.number_if_any(key)?.ok_or_else(|| missing(key))
    }

    /// A number that may be there.
    pub(crate) fn number_if_any<N: FromStr>(&mut self, key: &str) -> Result<Option<N>> {
        self.known.insert(key.to_owned());
        let Some(text) = self.numbers.remove(key) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(refused("numbers that can be read", format!("`{key}` = `{text}`"))),
        }
    }

    /// A quantity that has to be there: a rate, a damping, a length.
    pub(crate) fn quantity(&mut self, key: &str) -> Result<f64> {
        let number: f64 = self.number(key)?;
        match number.is_finite() && number >= 0.0 {
            true => Ok(number),
            false => Err(refused(
                "quantities that are finite and not negative",
                format!("`{key}` = {number}"),
            )),
        }
    }

    /// A counter that has to be there.
    pub(crate) fn count<N: TryFrom<u64>>(&mut self, key: &str) -> Result<N> {
        self.count_if_any(key)?.ok_or_else(|| missing(key))
    }

    /// A counter that may be there. It has to count on: as many again fit its type, and f64 tells it from the next.
    pub(crate) fn count_if_any<N: TryFrom<u64>>(&mut self, key: &str) -> Result<Option<N>> {
        let Some(count) = self.number_if_any::<u64>(key)? else { return Ok(None) };
        let goes_on = count <= MOST_COUNTED && N::try_from(2 * count).is_ok();
        match N::try_from(count) {
            Ok(number) if goes_on => Ok(Some(number)),
            _ => Err(refused("counters that can go on", format!("`{key}` = {count}"))),
        }
    }

    /// A tensor that has to be there, of the shape and dtype given.
    pub(crate) fn tensor(&mut self, key: &str, shape: &Shape, dtype: DType) -> Result<Tensor> {
        self.known.insert(key.to_owned());
        let Some(tensor) = self.tensors.remove(key) else {
            return Err(refused("a tensor for every moment and factor", format!("no `{key}`")));
        };
        if tensor.shape() != shape {
            let expected = format!("`{key}` of shape {shape}");
            return Err(Error::shape("load_state", expected, &[tensor.shape()]));
        }
        if tensor.dtype() != dtype {
            let expected = format!("{dtype} for `{key}`");
            return Err(Error::DType { op: "load_state", expected, got: tensor.dtype() });
        }
        Ok(tensor)
    }

    /// How many tensors nobody has asked for yet.
    pub(crate) fn tensors(&self) -> usize {
        self.tensors.len()
    }

    /// Whether a tensor is there.
    pub(crate) fn has_tensor(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// A vector of f64 that has to be there, of any length.
    pub(crate) fn vector(&mut self, key: &str) -> Result<Vec<f64>> {
        let shape = self.tensors.get(key).map_or(Shape::from([0]), |t| *t.shape());
        self.tensor(key, &shape, DType::F64)?.to_vec::<f64>()
    }

    /// Ends; nothing may be left.
    pub(crate) fn close(self, model: &dyn Parameters) -> Result<()> {
        let Some(got) = self.numbers.into_keys().chain(self.tensors.into_keys()).next() else {
            return Ok(());
        };
        let paths = model.parameters().into_iter().map(|(path, _)| path);
        let known = paths.chain(self.known.into_iter().filter(|key| !key.contains('/')));
        Err(Error::Unknown { what: "entry of a saved state", got, known: known.collect() })
    }
}

/// No run has counted further: the largest number up to which f64 has all.
const MOST_COUNTED: u64 = 1 << 53;

fn missing(key: &str) -> Error {
    refused("a number for every counter", format!("no `{key}`"))
}

/// The parameter at a path that a state names.
pub(crate) fn bias_at<'a>(model: &'a dyn Parameters, path: &str) -> Result<&'a Parameter> {
    let all = model.parameters();
    let found = all.iter().find(|(known, _)| known == path).map(|(_, parameter)| *parameter);
    found.ok_or_else(|| Error::Unknown {
        what: "bias in the optimizer state",
        got: path.to_owned(),
        known: all.iter().map(|(known, _)| known.clone()).collect(),
    })
}

/// A saved state that does not fit.
pub(crate) fn refused(expected: &'static str, got: String) -> Error {
    Error::Argument { op: "load_state", name: "state", expected, got }
}
