//! Passes that are captured on a CUDA device and launched again ([`Plan::graph`]).

use engine::{Parameters, Result};
use nn::data::Batch;
use optim::{Optimizer, Pass};

use crate::{Plan, Task};

/// The passes captured so far, the one used last at the end.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    #[cfg(feature = "cuda")]
    known: Vec<Known>,
}

/// A pass by what is fixed in it.
#[cfg(feature = "cuda")]
#[derive(Debug)]
struct Known {
    shapes: [engine::Shape; 2],
    factor: Option<f64>,
    observed: bool,
    /// `None` until its second time: the first has to be made on a tape, so that its kernels are loaded.
    replay: Option<engine::Replay>,
}

/// Passes that are kept: whole batches and an epoch's last. Each has memory of its own.
#[cfg(feature = "cuda")]
const KEPT: usize = 2;

impl Replays {
    /// The pass of a batch by a launch; `None` for one that has to be made on a tape: the first of its
    /// shapes, one that the optimizer wants to look at, and one whose loss is not finite (the tape finds
    /// out where). Gradients are multiplied by `factor` on their way, if there is one.
    ///
    /// # Errors
    /// What the task, the device or the estimator refuse.
    #[cfg(feature = "cuda")]
    pub(crate) fn pass<M: Parameters>(
        &mut self,
        model: &mut M,
        optimizer: &mut dyn Optimizer,
        (task, plan): (&dyn Task<M>, &Plan),
        batch: &Batch,
        seed: u64,
        factor: Option<f64>,
    ) -> Result<Option<Pass>> {
        let Some(observed) = optim::replayable(optimizer) else { return Ok(None) };
        let inputs = [&batch.inputs, &batch.targets];
        let shapes = inputs.map(|x| *x.shape());
        let alike = |known: &Known| known.shapes == shapes && known.factor == factor;
        let Some(at) = self.known.iter().position(alike) else {
            if self.known.len() == KEPT {
                self.known.remove(0);
            }
            self.known.push(Known { shapes, factor, observed: false, replay: None });
            return Ok(None);
        };
        let mut known = self.known.remove(at);
        let ready = known.observed || !observed;
        let launched = match known.replay.as_ref().filter(|_| ready) {
            Some(replay) => replay.launch(model, &inputs, seed)?,
            None => false,
        };
        if !launched {
            drop(known.replay.take()); // Its memory first.
            known.observed |= observed;
            let forward = |model: &M, tape: &engine::Tape, x: &[engine::Tensor]| {
                let batch = Batch { inputs: x[0].clone(), targets: x[1].clone() };
                let outputs = plan.precision.outputs(tape, || task.outputs(model, tape, &batch))?;
                factor.map_or(Ok(()), |factor| tape.scale_loss(factor))?;
                task.loss(&batch).nll(&outputs)
            };
            let replay = engine::Replay::capture(model, &inputs, seed, known.observed, forward)?;
            replay.launch(model, &inputs, seed)?;
            known.replay = Some(replay);
        }
        let mut found = None;
        if let Some(replay) = &known.replay {
            found = optim::replayed(replay, task.loss(batch).terms(), optimizer)?;
            found.as_ref().map_or(Ok(()), |_| replay.commit(model))?;
        }
        self.known.push(known);
        Ok(found)
    }

    /// Without CUDA there is nothing to capture.
    ///
    /// # Errors
    /// [`Error::NoDevice`](engine::Error::NoDevice).
    #[cfg(not(feature = "cuda"))]
    pub(crate) fn pass<M: Parameters>(
        &mut self,
        _: &mut M,
        _: &mut dyn Optimizer,
        _: (&dyn Task<M>, &Plan),
        _: &Batch,
        _: u64,
        _: Option<f64>,
    ) -> Result<Option<Pass>> {
        engine::Device::cuda(0).map(|_| None)
    }
}
