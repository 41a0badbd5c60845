//! What each matrix is in its model, as far as layer records tell: hidden, a table, the readout.
//!
//! A table's record is a lookup. A readout's is that of a dense layer or a convolution with no layer between it and
//! where the sweep began ([`LayerRecord::is_last`]): a model with several heads has several. A matrix that is used
//! outside layers is hidden where it is an operand of a matrix product, and something else (positions that are added,
//! a class token) where not. Of two uses the one that is not hidden counts: a table that is tied to the readout is a
//! table. What else should get AdamW is declared ([`MuonConfig::auxiliary`](crate::matrix::muon::MuonConfig::auxiliary)).

use std::collections::BTreeMap;

use engine::{Layer, LayerObserver, LayerRecord, ParamId, Result};

use crate::CurvatureSource;
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::tentative::Tentative;

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Hidden,
    Outside(&'static str),
    Readout,
    Table,
}

impl Role {
    pub(super) fn words(self) -> String {
        match self {
            Self::Hidden => "a hidden matrix".into(),
            Self::Outside(op) => format!("no layer's, used by {op}"),
            Self::Readout => "the readout".into(),
            Self::Table => "an embedding".into(),
        }
    }
}

/// Looks at the layers of backward passes until it has been told that all are known.
#[derive(Debug)]
pub(super) struct Roles {
    seen: Tentative<BTreeMap<ParamId, Role>>,
    pub(super) due: bool,
}

impl Roles {
    pub(super) fn new(due: bool) -> Self {
        Self { seen: Tentative::new(BTreeMap::new()), due }
    }

    /// What a parameter is, if a pass has shown it.
    pub(super) fn of(&self, param: ParamId) -> Option<Role> {
        self.seen.get(&param).copied()
    }

    /// Whether a pass has shown any layer.
    pub(super) fn any(&self) -> bool {
        !self.seen.is_empty()
    }

    /// A step is taken: what was seen counts.
    pub(super) fn commit(&mut self) {
        self.seen.commit();
    }

    fn add(&mut self, param: ParamId, role: Role) {
        let known = self.seen.entry(param).or_insert(role);
        *known = role.max(*known);
    }
}

impl LayerObserver for Roles {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        let role = match record.layer {
            Layer::Lookup => Role::Table,
            Layer::Dense | Layer::Conv2d(_) | Layer::ConvTranspose2d(_) if record.is_last => {
                Role::Readout
            }
            _ => Role::Hidden,
        };
        self.add(record.weight, role);
        Ok(())
    }

    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.add(param, if op == "matmul" { Role::Hidden } else { Role::Outside(op) });
        Ok(())
    }
}

impl CurvatureSource for Roles {
    fn due(&self) -> bool {
        self.due
    }

    fn finish(&mut self, _: usize) -> Result<()> {
        self.seen.finish();
        Ok(())
    }

    fn abandon(&mut self) {
        self.seen.abandon();
    }

    fn discard(&mut self) {
        self.seen.discard();
    }

    /// All workers have the same model.
    fn exchange(&mut self, _: &mut dyn Communicator) -> Result<()> {
        Ok(())
    }
}
