//! Which parameters a vector of a model is of, for vectors that are kept from step to step.

use std::collections::BTreeMap;

use engine::{DType, ParamId, Parameters, Result, Tensor};

use super::saved::Saved;
use crate::State;
use crate::algebra::flat::trainable;

/// The parameters that a vector is of, with their sizes: vectors that are kept from step to step have one, for
/// others may be frozen by then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layout(Vec<(ParamId, usize)>);

impl Layout {
    /// Of the trainable parameters.
    pub(crate) fn of(model: &dyn Parameters) -> Self {
        Self(trainable(model).map(|(_, p)| (p.id(), p.value().numel())).collect())
    }

    /// A vector of this layout in another: 0 for parameters that it has no part of.
    pub(crate) fn moved(&self, v: &[f64], to: &Self) -> Vec<f64> {
        let mut parts = BTreeMap::new();
        let mut rest = v;
        for &(id, size) in &self.0 {
            let (part, tail) = rest.split_at(size.min(rest.len()));
            parts.insert(id, part);
            rest = tail;
        }
        let part = |&(id, size): &(ParamId, usize)| match parts.get(&id) {
            Some(part) if part.len() == size => part.to_vec(),
            _ => vec![0.0; size],
        };
        to.0.iter().flat_map(part).collect()
    }

    /// Writes a vector down, each parameter's part under its own path.
    pub(crate) fn save(
        &self,
        model: &dyn Parameters,
        key: &str,
        v: &[f64],
        state: &mut State,
    ) -> Result<()> {
        let parameters = model.parameters();
        let mut rest = v;
        for &(id, size) in &self.0 {
            let (part, tail) = rest.split_at(size.min(rest.len()));
            rest = tail;
            let Some((path, _)) = parameters.iter().find(|(_, p)| p.id() == id) else { continue };
            let tensor = Tensor::from_slice(part, [part.len()])?;
            state.tensors.insert(format!("{path}/{key}"), tensor);
        }
        Ok(())
    }

    /// The parameters that a saved vector is of.
    pub(crate) fn saved(model: &dyn Parameters, key: &str, saved: &Saved) -> Self {
        let all = model.parameters().into_iter();
        let has = all.filter(|(path, _)| saved.has_tensor(&format!("{path}/{key}")));
        Self(has.map(|(_, p)| (p.id(), p.value().numel())).collect())
    }

    /// Reads what [`Layout::save`] wrote.
    pub(crate) fn load(
        &self,
        model: &dyn Parameters,
        key: &str,
        saved: &mut Saved,
    ) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for (path, parameter) in model.parameters() {
            let size = parameter.value().numel();
            if self.0.contains(&(parameter.id(), size)) {
                let tensor = saved.tensor(&format!("{path}/{key}"), &[size].into(), DType::F64)?;
                all.extend(tensor.to_vec::<f64>()?);
            }
        }
        Ok(all)
    }
}
