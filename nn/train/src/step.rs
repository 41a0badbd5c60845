//! One optimizer step: from one batch or several to new weights.

use engine::{Device, Error, Gradients, Parameters, Result, Rng, Tape};
use nn::data::Batch;
use optim::Optimizer;
use rand::Rng as _;

use crate::replays::Replays;
use crate::{LossScale, Plan, Precision, Task};

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Taken {
    /// The mean over all terms, before the step.
    pub(crate) loss: f64,
    /// Of the gradients, if they were to be clipped.
    pub(crate) norm: Option<f64>,
    /// Whether nothing was changed, since the loss scale was too large.
    pub(crate) skipped: bool,
}

/// Takes step number `number` (the first is 0).
///
/// The gradient of the mean over all terms is Σ Nᵢ gᵢ / Σ Nᵢ, where gᵢ is that of batch i's own mean
/// over Nᵢ terms. In f16, gradients that are not finite change nothing but the scale.
pub(crate) fn take<M: Parameters>(
    model: &mut M,
    optimizer: &mut dyn Optimizer,
    task: &dyn Task<M>,
    plan: &Plan,
    batches: &[Batch],
    number: u64,
    (scale, replays): (&mut LossScale, &mut Replays),
) -> Result<Taken> {
    let scaled = plan.precision == Precision::F16;
    let seed = |at: usize| mask_seed(plan, number, at);
    let outputs = |model: &M, tape: &Tape, batch: &Batch| {
        plan.precision.outputs(tape, || task.outputs(model, tape, batch))
    };
    if !on_gradients(plan) {
        let [batch] = batches else { return Ok(Taken { loss: f64::NAN, ..Taken::default() }) };
        let loss = task.loss(batch);
        let forward = |model: &M, tape: &Tape| outputs(model, tape, batch);
        let mut problem = optim::Batch::new(model, forward, &*loss).training(seed(0));
        return Ok(Taken { loss: optimizer.minimize(&mut problem)?, ..Taken::default() });
    }
    let (mut sum, mut loss_sum, mut terms_sum) = (Gradients::default(), 0.0, 0.0);
    for (at, batch) in batches.iter().enumerate() {
        let loss = task.loss(batch);
        let terms = loss.terms() as f64;
        let factor = scaled.then_some(scale.factor);
        let replayed = match plan.graph {
            true => replays.pass(model, optimizer, (task, plan), batch, seed(at), factor)?,
            false => None,
        };
        let mut pass = match replayed {
            Some(pass) => pass,
            None => {
                let tape = Tape::training(seed(at));
                let outputs = outputs(model, &tape, batch)?;
                factor.map_or(Ok(()), |factor| tape.scale_loss(factor))?;
                let pass = optim::backward(&tape, &outputs, &*loss, optimizer)?;
                let staged = tape.staged();
                drop((outputs, tape));
                model.commit(staged)?;
                pass
            }
        };
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
    let loss = loss_sum / terms_sum;
    // A scale of 1 is not what a gradient is too large for: then the optimizer refuses it, by name.
    if scaled && scale.factor > 1.0 {
        let finite = sum.is_finite()?;
        scale.found(finite);
        if !finite {
            return Ok(Taken { loss, norm: None, skipped: true });
        }
    }
    let norm = plan.clip_norm.map(|limit| sum.clip_norm(limit)).transpose()?;
    optimizer.step(model, &sum)?;
    Ok(Taken { loss, norm, skipped: false })
}

/// Whether steps are made of gradients: summed, clipped, scaled, or of a captured pass.
fn on_gradients(plan: &Plan) -> bool {
    let scaled = plan.precision == Precision::F16;
    plan.accumulate > 1 || plan.clip_norm.is_some() || scaled || plan.graph
}

/// Refuses an optimizer that wants more than gradients which may turn out useless, and a model that cannot
/// be captured.
pub(crate) fn accept(
    model: &dyn Parameters,
    optimizer: &mut dyn Optimizer,
    plan: &Plan,
) -> Result<()> {
    if !on_gradients(plan) {
        return Ok(());
    }
    let refuse =
        |name, expected, got: String| Err(Error::Argument { op: "train", name, expected, got });
    if optimizer.needs_problem() {
        let expected = "one that steps on gradients, to accumulate, clip, scale or capture them";
        return refuse("optimizer", expected, optimizer.name().to_owned());
    }
    let seen = optimizer.curvature().is_some_and(|source| source.keeps_numbers());
    let curved = seen || optimizer.hessian_diagonal().is_some();
    if plan.precision == Precision::F16 && curved {
        let expected = "one without curvature, to skip steps in f16 (bf16 skips none)";
        return refuse("optimizer", expected, optimizer.name().to_owned());
    }
    let on_gpu = |device| matches!(device, Device::Cuda(_));
    match model.parameters().iter().find(|(_, p)| !on_gpu(p.value().device())) {
        Some((path, p)) if plan.graph => {
            let got = format!("`{path}` on {}", p.value().device());
            refuse("graph", "a model on a CUDA device", got)
        }
        _ => Ok(()),
    }
}

/// The seed of a tape: another one for every batch of every step, and nothing to remember.
fn mask_seed(plan: &Plan, step: u64, at: usize) -> u64 {
    let batch = step.wrapping_mul(plan.accumulate as u64).wrapping_add(at as u64);
    Rng::stream(plan.seed, batch).next_u64()
}
