//! Saving and resuming Shampoo, bit by bit: moments, roots (they may be older than the moments),
//! the rate and the number of steps.

use std::collections::BTreeMap;

use engine::{DType, Parameters, Result, Shape, Tensor};

use super::{Shampoo, Slot};
use crate::State;
use crate::frame::saved::Saved;

impl Shampoo {
    pub(super) fn save(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: "shampoo".into(), ..State::default() };
        state.numbers.insert("rate".into(), self.config.rate.to_string());
        state.numbers.insert("steps".into(), self.steps.to_string());
        for (path, param) in model.parameters() {
            let Some(slot) = self.slots.get(&param.id()) else { continue };
            state.numbers.insert(format!("{path}/blocks"), slot.blocks.len().to_string());
            let mut put = |key: String, tensor: &Tensor| {
                state.tensors.insert(format!("{path}/{key}"), tensor.clone());
            };
            slot.first.iter().for_each(|first| put("first".into(), first));
            slot.second.iter().for_each(|second| put("second".into(), second));
            for (b, block) in slot.blocks.iter().enumerate() {
                for (i, axis) in block.axes.iter().enumerate() {
                    put(format!("moment.{b}.{i}"), &axis.moment);
                    axis.root.iter().for_each(|root| put(format!("root.{b}.{i}"), root));
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
        let (rate, steps) = (saved.quantity("rate")?, saved.count("steps")?);
        let mut slots = BTreeMap::new();
        for (path, param) in model.parameters() {
            if saved.number_if_any::<usize>(&format!("{path}/blocks"))?.is_none() {
                continue;
            }
            let mut slot = Slot::new(&self.config, param);
            let dtype = param.value().dtype();
            let mut kept = |key: String, shape: &Shape, dtype| {
                saved.tensor(&format!("{path}/{key}"), shape, dtype)
            };
            for (key, moment) in [("first", &mut slot.first), ("second", &mut slot.second)] {
                if let Some(moment) = moment {
                    *moment = kept(key.into(), param.value().shape(), dtype)?;
                }
            }
            for (b, block) in slot.blocks.iter_mut().enumerate() {
                for (i, axis) in block.axes.iter_mut().enumerate() {
                    let shape = axis.side.shape();
                    axis.moment = kept(format!("moment.{b}.{i}"), &shape, DType::F64)?;
                    axis.root = Some(kept(format!("root.{b}.{i}"), &shape, dtype)?);
                }
            }
            for (b, block) in slot.blocks.iter_mut().enumerate() {
                block.failures = saved.count(&format!("{path}/failures.{b}"))?;
            }
            slots.insert(param.id(), slot);
        }
        saved.close(model)?;
        // Everything has been read and fits: from here on nothing fails.
        (self.config.rate, self.steps, self.slots) = (rate, steps, slots);
        Ok(())
    }
}
