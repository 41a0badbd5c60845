//! Saving and resuming, bit by bit: what is kept of each layer, updates, the rate, the steps and the
//! generator.

use std::collections::BTreeMap;

use engine::{Parameter, Parameters, Result, Rng, Tensor};

use super::{Frame, Kept, LayerRule};
use crate::State;
use crate::frame::saved::{Saved, bias_at, refused};

impl Frame {
    pub(super) fn save(&self, rule: &dyn LayerRule, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: rule.name().into(), ..State::default() };
        let mut put = |key: String, text: String| state.numbers.insert(key, text);
        put("rate".into(), rule.common().rate.to_string());
        put("steps".into(), self.steps.to_string());
        put("looks".into(), self.rows.steps.to_string());
        for (at, word) in self.rows.notes.committed().rng.state().iter().enumerate() {
            put(format!("generator.{at}"), word.to_string());
        }
        self.updates.save(model, &mut state);
        let parameters = model.parameters();
        for (path, parameter) in &parameters {
            let Some(kept) = self.layers.get(&parameter.id()) else { continue };
            let mut put = |key: &str, text| state.numbers.insert(format!("{path}/{key}"), text);
            put("inputs", kept.n.to_string());
            put("outputs", kept.m.to_string());
            put("groups", kept.groups.len().to_string());
            put("looks", kept.looks.to_string());
            if kept.transposed {
                put("transposed", kept.transposed.to_string());
            }
            if let Some((bias, _)) = parameters.iter().find(|(_, p)| Some(p.id()) == kept.bias) {
                put("bias", bias.clone());
            }
            for (group, values) in kept.groups.iter().enumerate() {
                for (name, values) in values {
                    let tensor = Tensor::from_slice(values, [values.len()])?;
                    state.tensors.insert(format!("{path}/{name}.{group}"), tensor);
                }
            }
        }
        Ok(state)
    }

    /// Takes a state over; returns its rate.
    pub(super) fn load(
        &mut self,
        rule: &dyn LayerRule,
        model: &dyn Parameters,
        state: &State,
    ) -> Result<f64> {
        let mut saved = Saved::open(rule.name(), state)?;
        let (rate, steps) = (saved.quantity("rate")?, saved.count("steps")?);
        let looks = saved.count("looks")?;
        let mut word = |at: usize| saved.number(&format!("generator.{at}"));
        let generator = [word(0)?, word(1)?, word(2)?];
        let updates = self.updates.load(model, &mut saved)?;
        let mut layers = BTreeMap::new();
        for (path, parameter) in model.parameters() {
            let Some(n) = saved.number_if_any::<usize>(&format!("{path}/inputs"))? else {
                continue;
            };
            let looks = saved.count(&format!("{path}/looks"))?;
            let mut number = |key: &str| saved.number::<usize>(&format!("{path}/{key}"));
            let (m, groups) = (number("outputs")?, number("groups")?);
            let bias = match saved.number_if_any::<String>(&format!("{path}/bias"))? {
                None => None,
                Some(bias) => Some(bias_at(model, &bias)?),
            };
            // What is kept is made of these sizes.
            let width = n.checked_sub(usize::from(bias.is_some()));
            let outputs = m.checked_mul(groups);
            let entries =
                width.zip(outputs).and_then(|(width, outputs)| width.checked_mul(outputs));
            let beside = bias.is_none_or(|bias| outputs == Some(bias.value().numel()));
            if entries != Some(parameter.value().numel()) || !beside {
                let got = format!("`{path}`: {n} inputs, {m} outputs, {groups} groups");
                return Err(refused("layers of their weights' sizes", got));
            }
            let transposed = saved.number_if_any(&format!("{path}/transposed"))?.unwrap_or(false);
            let bias = bias.map(Parameter::id);
            let mut kept = Kept { bias, n, m, transposed, looks, groups: Vec::new() };
            for group in 0..groups {
                let mut values = rule.start(n, m);
                for (name, values) in &mut values {
                    let found = saved.vector(&format!("{path}/{name}.{group}"))?;
                    if found.len() != values.len() {
                        let got =
                            format!("{} for {} of `{path}/{name}`", found.len(), values.len());
                        return Err(refused("as many numbers as the sides configured keep", got));
                    }
                    *values = found.into();
                }
                kept.groups.push(values);
            }
            layers.insert(parameter.id(), kept);
        }
        saved.close(model)?;
        // Everything has been read and fits: from here on nothing fails.
        (self.steps, self.updates, self.layers) = (steps, updates, layers);
        self.discard();
        (self.rows.steps, self.rows.notes.rng) = (looks, Rng::from_state(generator));
        self.rows.notes.commit();
        for (&weight, kept) in &self.layers {
            self.rows.restore(weight, kept.bias);
        }
        Ok(rate)
    }
}
