//! What a file expects, with a note of what was compared: nothing is left out in silence.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::document::{Array, Failure, Node, Result};
use crate::report::{Comparison, Line};
use crate::trajectory::tolerance;

/// The members of `expected`, with a note of those that were compared.
pub(crate) struct Expected<'a> {
    node: Node<'a>,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Expected<'a> {
    /// Nothing compared yet.
    pub(crate) fn of(root: &Node<'a>) -> Result<Self> {
        Ok(Self { node: root.get("expected")?, used: RefCell::default() })
    }

    /// A member.
    pub(crate) fn get(&self, key: &str) -> Result<Node<'a>> {
        self.used.borrow_mut().insert(key.to_owned());
        self.node.get(key)
    }

    /// A tensor.
    pub(crate) fn array(&self, key: &str) -> Result<Array> {
        self.get(key)?.array()
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> Result<f64> {
        self.get(key)?.number()
    }

    /// Whether there is such a member.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.node.find(key).is_some()
    }

    /// What nobody asked for, as a line: nothing in a file is left out in silence.
    pub(crate) fn rest(&self, file: &str) -> Result<Option<Line>> {
        let used = self.used.borrow();
        let members = self.node.members()?;
        let rest: Vec<_> = members.iter().map(|(k, _)| *k).filter(|k| !used.contains(*k)).collect();
        let failure = Failure::NotYet(rest.join(", "));
        Ok((!rest.is_empty()).then(|| Line::new(file, "the rest", Err(failure))))
    }
}

/// A line from a closure that compares.
pub(crate) fn line(
    file: &str,
    run: &str,
    root: &Node<'_>,
    compare: impl FnOnce(&mut Comparison) -> Result<()>,
) -> Line {
    let outcome = tolerance(root).map(Comparison::new).and_then(|mut comparison| {
        compare(&mut comparison)?;
        Ok(comparison)
    });
    Line::new(file, run, outcome)
}
