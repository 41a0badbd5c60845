//! The same on a device, as operations on tensors. Roots are found in main memory when they are renewed; between
//! two renewals nothing is read back.

use engine::{DType, Device, Parameters, Result, Tensor};

use super::blocks::Preconditioner;
use super::{Graft, Shampoo, ShampooConfig, Slot, Statistics};
use crate::algebra::axes;
use crate::algebra::dense::correction;
use crate::algebra::on_tensors::{length, mix};
use crate::frame::cuda::{judge, overwrite, settle};
use crate::frame::descent::Directions;

impl Shampoo {
    /// All parameters' steps; when one cannot be made, nothing has changed.
    pub(super) fn step_there(
        &mut self,
        model: &mut dyn Parameters,
        gradients: &Directions,
        t: u64,
    ) -> Result<()> {
        let (config, mut made) = (&self.config, Vec::new());
        let due = (t - 1).is_multiple_of(config.root_every.max(1));
        let Some(gpu) = gradients.values().find_map(Tensor::gpu) else { return Ok(()) };
        let verdict = judge(gpu, gradients.values())?;
        let rootless = |id| self.slots.get(id).is_none_or(|slot| !slot.has_roots());
        if due || gradients.keys().any(rootless) {
            verdict.demand(gpu, "shampoo")?; // The host waits for the moments anyway.
        }
        for (path, parameter) in model.parameters_mut() {
            let Some(gradient) = gradients.get(&parameter.id()) else { continue };
            let known = self.slots.get(&parameter.id()).cloned();
            let mut slot = known.unwrap_or_else(|| Slot::new(config, parameter));
            slot.bring_to(gradient.device())?;
            let mut before = slot.clone();
            // Estimate.
            let seen = gradient.to_dtype(DType::F64)?.reshape(slot.cut.shape()?)?;
            for (block, range) in slot.blocks.iter_mut().zip(slot.cut.ranges()) {
                block.add_there(&slot.cut.part(&seen, &range)?, config.statistics)?;
                if due || !block.has_roots() {
                    let renewed = block.renew(config.statistics, config.exponent, t);
                    renewed.map_err(|error| error.in_layer(&path))?;
                }
            }
            // Precondition.
            let direction = slot.direction_there(config, gradient, t)?;
            let kept = 1.0 - config.rate * config.weight_decay;
            let mut value = mix(kept, parameter.value(), -config.rate, &direction)?.contiguous()?;
            settle(gpu, &verdict, "shampoo", parameter.value(), &mut value)?;
            for (old, new) in before.averages_mut().zip(slot.averages_mut()) {
                settle(gpu, &verdict, "shampoo", old, new)?;
            }
            parameter.value_mut().make_cuda_mut()?;
            made.push((parameter, slot, value));
        }
        // Step.
        for (parameter, slot, value) in made {
            overwrite(parameter, &value)?;
            self.slots.insert(parameter.id(), slot);
        }
        Ok(())
    }
}

impl Slot {
    /// P
    fn direction_there(
        &mut self,
        config: &ShampooConfig,
        gradient: &Tensor,
        t: u64,
    ) -> Result<Tensor> {
        let corrected = match (config.statistics, &self.first) {
            (Statistics::Ema { bias_correction: false, .. }, _) | (_, None) => 1.0,
            _ => correction(config.beta1, t),
        };
        if let Some(first) = &mut self.first {
            *first = mix(config.beta1, first, 1.0 - config.beta1, gradient)?;
        }
        let moment = self.first.as_ref().unwrap_or(gradient);
        let whole = moment.reshape(self.cut.shape()?)?;
        let parts = self.cut.ranges().into_iter().zip(&self.blocks);
        let parts = parts.map(|(range, block)| block.apply_there(self.cut.part(&whole, &range)?));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let direction = self.cut.joined(parts)?.reshape(*gradient.shape())?;
        let grafted = match (config.graft, &mut self.second) {
            (Graft::None, _) | (Graft::Adam { .. }, None) => {
                return direction.scale(1.0 / corrected);
            }
            (Graft::Sgd, _) => length(moment)?.scale(1.0 / corrected)?,
            (Graft::Adam { beta2, epsilon }, Some(second)) => {
                *second = mix(beta2, second, 1.0 - beta2, &gradient.square()?)?;
                let bias = correction(beta2, t);
                let spread = second.scale(1.0 / bias)?.sqrt()?.shift(epsilon)?;
                length(&moment.scale(1.0 / corrected)?.div(&spread)?)?
            }
        };
        // 0 of nothing.
        let own = length(&direction)?;
        let zero = Tensor::full_on(own.device(), *own.shape(), 0.0, own.dtype())?;
        let scale = own.greater(&zero)?.select(&grafted.div(&own)?, &zero)?;
        direction.mul(&scale)
    }

    /// What gradients are averaged in.
    fn averages_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let axes = self.blocks.iter_mut().flat_map(|block| &mut block.axes);
        axes.map(|axis| &mut axis.moment).chain(&mut self.first).chain(&mut self.second)
    }

    /// What is kept, on another device.
    pub(super) fn bring_to(&mut self, device: Device) -> Result<()> {
        let axes = self.blocks.iter_mut().flat_map(|block| &mut block.axes);
        let axes = axes.flat_map(|axis| [&mut axis.moment].into_iter().chain(&mut axis.root));
        for tensor in axes.chain(&mut self.first).chain(&mut self.second) {
            if tensor.device() != device {
                *tensor = tensor.to_device(device)?;
            }
        }
        Ok(())
    }
}

impl Preconditioner {
    fn add_there(&mut self, gradient: &Tensor, statistics: Statistics) -> Result<()> {
        let (keep, gain) = match statistics {
            Statistics::Sum { .. } => (1.0, 1.0),
            Statistics::Ema { beta2, .. } => (beta2, 1.0 - beta2),
        };
        for (i, axis) in self.axes.iter_mut().enumerate() {
            let new = axes::gram_of(gradient, (i, &axis.side))?;
            axis.moment = mix(keep, &axis.moment, gain, &new)?;
        }
        Ok(())
    }

    fn apply_there(&self, moment: Tensor) -> Result<Tensor> {
        let roots = self
            .axes
            .iter()
            .enumerate()
            .filter_map(|(i, axis)| Some(((i, &axis.side), axis.root.as_ref()?)));
        roots.into_iter().try_fold(moment, |x, (at, root)| axes::times_of(&x, at, root, false))
    }
}
