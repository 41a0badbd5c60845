//! One optimizer step: from one batch or several to new weights.

use engine::{Error, Gradients, Parameters, Result, Rng};
use nn::data::Batch;
use optim::Optimizer;
use rand::Rng as _;

use crate::{Plan, Task};

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Taken {
    /// The mean over all terms, before the step.
    pub(crate) loss: f64,
    /// Of the gradients, if they were to be clipped.
    pub(crate) norm: Option<f64>,
}

/// Takes step number `number` (the first is 0).
///
/// The gradient of the mean over all terms is Σ Nᵢ gᵢ / Σ Nᵢ, where gᵢ is that of batch i's own mean
/// over Nᵢ terms.
pub(crate) fn take<M: Parameters>(
    model: &mut M,
    optimizer: &mut dyn Optimizer,
    task: &dyn Task<M>,
    plan: &Plan,
    batches: &[Batch],
    number: u64,
) -> Result<Taken> {
    let seed = |at: usize| mask_seed(plan, number, at);
    if plan.accumulate == 1 && plan.clip_norm.is_none() {
        let [batch] = batches else { return Ok(Taken { loss: f64::NAN, norm: None }) };
        let loss = task.loss(batch);
        let forward = |model: &M, tape: &engine::Tape| task.outputs(model, tape, batch);
        let mut problem = optim::Batch::new(model, forward, &*loss).training(seed(0));
        return Ok(Taken { loss: optimizer.minimize(&mut problem)?, norm: None });
    }
    if optimizer.needs_problem() {
        return Err(Error::Argument {
            op: "train",
            name: "optimizer",
            expected: "one that steps on gradients, to accumulate or clip them",
            got: optimizer.name().to_owned(),
        });
    }
    let (mut sum, mut loss_sum, mut terms_sum) = (Gradients::default(), 0.0, 0.0);
    for (at, batch) in batches.iter().enumerate() {
        let tape = engine::Tape::training(seed(at));
        let outputs = task.outputs(model, &tape, batch)?;
        let loss = task.loss(batch);
        let terms = loss.terms() as f64;
        let mut pass = optim::backward(&tape, &outputs, &*loss, optimizer)?;
        let staged = tape.staged();
        drop((outputs, tape));
        model.commit(staged)?;
        loss_sum += terms * pass.loss.item()?;
        terms_sum += terms;
        if batches.len() > 1 {
            pass.gradients.scale(terms)?;
        }
        sum.accumulate(&pass.gradients)?;
    }
    if batches.len() > 1 {
        sum.scale(1.0 / terms_sum)?;
    }
    let norm = plan.clip_norm.map(|limit| sum.clip_norm(limit)).transpose()?;
    optimizer.step(model, &sum)?;
    Ok(Taken { loss: loss_sum / terms_sum, norm })
}

/// The seed of a tape: another one for every batch of every step, and nothing to remember.
fn mask_seed(plan: &Plan, step: u64, at: usize) -> u64 {
    let batch = step.wrapping_mul(plan.accumulate as u64).wrapping_add(at as u64);
    Rng::stream(plan.seed, batch).next_u64()
}
