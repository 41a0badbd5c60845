//! The printed tape.

use std::collections::HashMap;
use std::fmt;

use super::Tape;
use crate::{ParamId, Parameters};

/// The records of a tape as a table: index, op, inputs, output shape, bytes (as if all outputs were
/// held: [`Tape::memory`] says what is), parameter.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<[String; 7]>,
    bytes: usize,
}

/// The path of each of a model's parameters.
pub(super) fn paths(model: Option<&dyn Parameters>) -> HashMap<ParamId, String> {
    let parameters = model.into_iter().flat_map(Parameters::parameters);
    parameters.map(|(path, parameter)| (parameter.id(), path)).collect()
}

impl Tape {
    /// The tape as a table that can be printed. Parameters are named by their paths in `model`.
    #[must_use]
    pub fn table(&self, model: Option<&dyn Parameters>) -> Table {
        let names = paths(model);
        let mut bytes = 0;
        let mut rows = Vec::new();
        if let Some(recording) = &self.recording {
            for (i, node) in recording.nodes.borrow().iter().enumerate() {
                let output = node.shape.numel() * node.dtype.bytes();
                let size = output + node.saved.iter().map(crate::Tensor::bytes).sum::<usize>();
                bytes += size;
                let inputs: Vec<_> = node.inputs.iter().map(ToString::to_string).collect();
                let name = node
                    .param
                    .map(|id| names.get(&id).cloned().unwrap_or_else(|| format!("{id:?}")));
                rows.push([
                    i.to_string(),
                    node.name().to_owned(),
                    inputs.join(" "),
                    format!("{} {}", node.dtype, node.shape),
                    size.to_string(),
                    if node.needs_grad { "yes" } else { "" }.to_owned(),
                    name.unwrap_or_default(),
                ]);
            }
        }
        Table { rows, bytes }
    }
}

const HEAD: [&str; 7] = ["#", "op", "inputs", "output", "bytes", "grad", "parameter"];
/// Columns of numbers stand to the right.
const RIGHT: [bool; 7] = [true, false, false, false, true, false, false];

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = HEAD.map(str::to_owned);
        let mut width = [0; 7];
        for row in std::iter::once(&head).chain(&self.rows) {
            for (w, cell) in width.iter_mut().zip(row) {
                *w = (*w).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&head).chain(&self.rows) {
            let cells: Vec<String> = (0..7)
                .map(|c| {
                    let (cell, w) = (&row[c], width[c]);
                    if RIGHT[c] { format!("{cell:>w$}") } else { format!("{cell:<w$}") }
                })
                .collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        write!(f, "{} records, {} bytes", self.rows.len(), self.bytes)
    }
}
