//! Saving and resuming Shampoo, bit by bit: moments, roots (they may be older than the moments),
//! the rate and the number of steps.

use std::collections::BTreeMap;

use engine::{DType, Parameters, Result, Tensor};

use super::{Shampoo, Slot};
use crate::State;
use crate::saved::Saved;

impl Shampoo {
    pub(super) fn save(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: "shampoo".into(), ..State::default() };
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        state.numbers.insert("steps".into(), self.steps.to_string());
        for (path, param) in model.parameters() {
            let Some(slot) = self.slots.get(&param.id()) else { continue };
            state.numbers.insert(format!("{path}/blocks"), slot.blocks.len().to_string());
            let mut put = |key: String, values: &[f64]| -> Result<()> {
                let tensor = Tensor::from_slice(values, [values.len()])?;
                state.tensors.insert(format!("{path}/{key}"), tensor);
                Ok(())
            };
            put("first".into(), &slot.first)?;
            put("second".into(), &slot.second)?;
            for (b, block) in slot.blocks.iter().enumerate() {
                for (i, axis) in block.axes.iter().enumerate() {
                    put(format!("moment.{b}.{i}"), &axis.moment)?;
                    put(format!("root.{b}.{i}"), &axis.root)?;
                }
            }
            for (b, block) in slot.blocks.iter().enumerate() {
                state.numbers.insert(format!("{path}/failures.{b}"), block.failures.to_string());
            }
        }
        Ok(state)
    }

    pub(super) fn load(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open("shampoo", state)?;
        let (rate, steps) = (saved.number("rate")?, saved.number("steps")?);
        let mut slots = BTreeMap::new();
        for (path, param) in model.parameters() {
            if saved.number_if_any::<usize>(&format!("{path}/blocks"))?.is_none() {
                continue;
            }
            let mut slot = Slot::new(&self.config, param);
            let mut fill = |key: String, values: &mut Vec<f64>, n: usize| -> Result<()> {
                let tensor = saved.tensor(&format!("{path}/{key}"), &[n].into(), DType::F64)?;
                *values = tensor.to_vec::<f64>()?;
                Ok(())
            };
            let (first, second) = (slot.first.len(), slot.second.len());
            fill("first".into(), &mut slot.first, first)?;
            fill("second".into(), &mut slot.second, second)?;
            for (b, block) in slot.blocks.iter_mut().enumerate() {
                for (i, axis) in block.axes.iter_mut().enumerate() {
                    let n = axis.moment.len();
                    fill(format!("moment.{b}.{i}"), &mut axis.moment, n)?;
                    fill(format!("root.{b}.{i}"), &mut axis.root, n)?;
                }
            }
            for (b, block) in slot.blocks.iter_mut().enumerate() {
                block.failures = saved.number(&format!("{path}/failures.{b}"))?;
            }
            slots.insert(param.id(), slot);
        }
        saved.close(model)?;
        // Everything has been read and fits: from here on nothing fails.
        (self.config.rate, self.steps, self.slots) = (rate, steps, slots);
        Ok(())
    }
}
