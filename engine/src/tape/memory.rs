//! What a tape holds: bytes by operation and by layer.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::Tape;
use super::table::paths;
use crate::{Parameters, Storage, Tensor};

/// The bytes that a tape holds for the backward pass, by operation and layer. Memory that several
/// records share is counted once, with the first of them; parameters belong to the model and are
/// not counted. The peak of a whole step, gradients included, is
/// [`kernels::pool::peak_bytes`].
#[derive(Debug, Clone)]
pub struct Memory {
    lines: Vec<Line>,
}

/// The records of one operation, or of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The operation, or `input`.
    pub op: &'static str,
    /// The path of the layer's weight, if it is a layer.
    pub layer: String,
    /// How many records there are.
    pub records: usize,
    /// What they hold: outputs, and what their kernels saved.
    pub bytes: usize,
}

impl Tape {
    /// What is held now. Layers are named by their weights' paths in `model`.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tape, Tensor};
    /// let tape = Tape::new();
    /// let y = tape.watch(Tensor::ones([8], DType::F32)).exp()?.scale(2.0)?;
    /// // The input, and exp's output, which is its derivative; what scale made nobody looks at.
    /// assert_eq!(tape.memory(None).bytes(), 2 * 8 * 4);
    /// # drop(y);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    #[must_use]
    pub fn memory(&self, model: Option<&dyn Parameters>) -> Memory {
        let names = paths(model);
        let mut lines: BTreeMap<(&'static str, String), (usize, usize)> = BTreeMap::new();
        let Some(recording) = &self.recording else { return Memory { lines: Vec::new() } };
        let nodes = recording.nodes.borrow();
        let mut counted: HashSet<*const Storage> = HashSet::new();
        let is_parameter = |node: &&super::Node| node.param.is_some() && node.op.is_none();
        let parameters = nodes.iter().filter(is_parameter);
        counted.extend(parameters.filter_map(|node| node.output.as_ref()).map(memory_of));
        for node in nodes.iter().filter(|node| !is_parameter(node)) {
            let weight = node.op.as_ref().and_then(|op| op.layer()).and(node.inputs.get(1));
            let layer = weight.and_then(|&w| names.get(&nodes[w].param?).cloned());
            let held = node.output.iter().chain(&node.saved);
            let bytes: usize =
                held.filter(|t| counted.insert(memory_of(t))).map(|t| t.storage().bytes()).sum();
            let line = lines.entry((node.name(), layer.unwrap_or_default())).or_default();
            *line = (line.0 + 1, line.1 + bytes);
        }
        let line = |((op, layer), (records, bytes))| Line { op, layer, records, bytes };
        let mut lines: Vec<Line> = lines.into_iter().map(line).collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.bytes));
        Memory { lines }
    }
}

fn memory_of(t: &Tensor) -> *const Storage {
    Arc::as_ptr(t.shared_storage())
}

impl Memory {
    /// One line an operation and layer, the largest first.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// All bytes together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lines.iter().map(|line| line.bytes).sum()
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12}  {:>7}  {:<18}  layer", "bytes", "records", "op")?;
        for Line { op, layer, records, bytes } in &self.lines {
            writeln!(f, "{}", format!("{bytes:>12}  {records:>7}  {op:<18}  {layer}").trim_end())?;
        }
        write!(f, "{:>12}  in all", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Parameter, Tape, Tensor};

    #[test]
    fn only_what_backward_rules_look_at_is_held_and_shared_memory_counts_once() {
        let tape = Tape::new();
        let weight = Parameter::new(Tensor::ones([3, 4], DType::F32));
        let x = tape.input(Tensor::ones([2, 4], DType::F32));
        // x: 32 bytes. Nobody needs the outputs of linear and shift; tanh needs its own (24 bytes);
        // the sum needs none.
        let y = x.linear(&tape.bind(&weight), None).unwrap().shift(1.0).unwrap().tanh().unwrap();
        let _loss = y.reshape([6]).unwrap().sum_all().unwrap();
        let memory = tape.memory(Some(&weight));
        assert_eq!(memory.bytes(), 32 + 24, "{memory}");
        assert_eq!((memory.lines()[0].op, memory.lines()[0].bytes), ("input", 32));
        assert_eq!((memory.lines()[1].op, memory.lines()[1].bytes), ("tanh", 24));
        assert!(memory.lines().iter().any(|l| l.op == "linear" && l.bytes == 0));
    }

    #[test]
    fn a_sweep_that_frees_leaves_nothing_and_cannot_be_repeated() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::ones([8], DType::F32));
        let loss = x.exp().unwrap().sum_all().unwrap();
        assert!(tape.memory(None).bytes() > 0);
        tape.backward_once(&loss, None).unwrap();
        assert_eq!(tape.memory(None).bytes(), 0);
        let again = tape.backward(&loss).unwrap_err();
        assert!(matches!(again, crate::Error::TapeSpent { op: "backward" }), "{again}");
        // Records behind the loss are freed too.
        let other = Tape::new();
        let x = other.watch(Tensor::ones([8], DType::F32));
        let (loss, _behind) = (x.sum_all().unwrap(), x.exp().unwrap().exp().unwrap());
        other.backward_once(&loss, None).unwrap();
        assert_eq!(other.memory(None).bytes(), 0);
    }
}
