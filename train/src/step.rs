//! One optimizer step: from one batch or several to new weights.

use engine::{Device, Error, Gradients, Parameters, Result, Rng, Tape, Tensor};
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

/// What a step changes, and what it is taken by.
pub(crate) struct Stepping<'a, M> {
    pub(crate) model: &'a mut M,
    pub(crate) optimizer: &'a mut dyn Optimizer,
    pub(crate) task: &'a dyn Task<M>,
    pub(crate) plan: &'a Plan,
    /// The first step is 0.
    pub(crate) number: u64,
    pub(crate) scale: &'a mut LossScale,
    pub(crate) replays: &'a mut Replays,
}

impl<M: Parameters> Stepping<'_, M> {
    /// Takes the step.
    ///
    /// The gradient of the mean over all terms is Σ Nᵢ gᵢ / Σ Nᵢ, where gᵢ is that of batch i's own mean
    /// over Nᵢ terms. In f16, gradients that are not finite change nothing but the scale.
    pub(crate) fn take(&mut self, batches: &[Batch]) -> Result<Taken> {
        if !on_gradients(self.plan) {
            return self.minimize(batches);
        }
        let buffers = buffers_of(self.model);
        let taken = self.accumulate(batches);
        if taken.as_ref().map_or(true, |taken| taken.skipped) {
            // Nothing of these batches stays: not in the estimators, not in running means.
            self.optimizer.discard();
            set_buffers(self.model, buffers);
        }
        taken
    }

    /// The optimizer's own way with one batch.
    fn minimize(&mut self, batches: &[Batch]) -> Result<Taken> {
        let Self { task, plan, .. } = *self;
        let [batch] = batches else { return Ok(Taken { loss: f64::NAN, ..Taken::default() }) };
        let loss = task.loss(batch);
        let forward = |model: &M, tape: &Tape| {
            plan.precision.outputs(tape, || task.outputs(model, tape, batch))
        };
        let problem = optim::Batch::new(self.model, forward, &*loss).unused(task.unused());
        let mut problem = problem.training(mask_seed(plan, self.number, 0));
        Ok(Taken { loss: self.optimizer.minimize(&mut problem)?, ..Taken::default() })
    }

    /// Gradients of one batch or several, and a step, unless they are too large for the scale.
    fn accumulate(&mut self, batches: &[Batch]) -> Result<Taken> {
        let Self { model, optimizer, task, plan, number, scale, replays } = self;
        let scaled = plan.precision == Precision::F16;
        let (mut sum, mut loss_sum, mut terms_sum) = (Gradients::default(), 0.0, 0.0);
        for (at, batch) in batches.iter().enumerate() {
            let loss = task.loss(batch);
            let terms = loss.terms() as f64;
            let factor = scaled.then_some(scale.factor);
            let seed = mask_seed(plan, *number, at);
            let replayed = match plan.graph {
                true => replays.pass(*model, *optimizer, (*task, plan), batch, seed, factor)?,
                false => None,
            };
            let mut pass = match replayed {
                Some(pass) => pass,
                None => {
                    let tape = Tape::training(seed);
                    let outputs =
                        plan.precision.outputs(&tape, || task.outputs(model, &tape, batch))?;
                    factor.map_or(Ok(()), |factor| tape.scale_loss(factor))?;
                    let pass = optim::backward(&tape, &outputs, &*loss, *optimizer)?;
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
        sum.set_unused(task.unused());
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
        optimizer.step(*model, &sum)?;
        Ok(Taken { loss, norm, skipped: false })
    }
}

/// Whether steps are made of gradients: summed, clipped, scaled, or of a captured pass.
fn on_gradients(plan: &Plan) -> bool {
    let scaled = plan.precision == Precision::F16;
    plan.accumulate > 1 || plan.clip_norm.is_some() || scaled || plan.graph
}

/// The values of a model's buffers in main memory. Those on a GPU are written in place there: a second owner
/// would move them, and a captured pass would be captured again. They stay as they become.
fn buffers_of<M: Parameters>(model: &M) -> Vec<Option<Tensor>> {
    let here = |value: &Tensor| !matches!(value.device(), Device::Cuda(_));
    let values = model.buffers().into_iter().map(|(_, buffer)| buffer.value());
    values.map(|value| here(value).then(|| value.clone())).collect()
}

fn set_buffers<M: Parameters>(model: &mut M, values: Vec<Option<Tensor>>) {
    for ((_, buffer), value) in model.buffers_mut().into_iter().zip(values) {
        if let Some(value) = value {
            *buffer.value_mut() = value;
        }
    }
}

/// Refuses an optimizer that wants more than gradients, and a model that cannot be captured.
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

#[cfg(test)]
mod tests {
    use engine::{DType, Var, parameters};
    use nn::{BatchNorm2d, Linear, Module};

    use super::*;
    use crate::{Plan, Supervised};

    struct Net {
        first: Linear,
        norm: BatchNorm2d,
        last: Linear,
    }
    parameters!(Net { first, norm, last });

    impl Module for Net {
        fn forward(&self, x: &Var) -> Result<Var> {
            let hidden = self.first.forward(x)?;
            let image = hidden.reshape([hidden.shape()[0], 6, 1, 1])?;
            let normal = self.norm.forward(&image)?.reshape(*hidden.shape())?;
            self.last.forward(&normal.tanh()?)
        }
    }

    fn batch(seed: u64) -> Batch {
        let inputs = Tensor::normal([8, 4], 0.0, 1.0, DType::F32, &mut Rng::new(seed));
        Batch { inputs, targets: Tensor::from_fn([8], DType::I64, |i| (i % 3) as f64) }
    }

    /// Three steps in f16, with a batch that is skipped before each of them, or none.
    fn run(name: &str, skip: bool) -> (Vec<Vec<f64>>, Vec<(String, String)>) {
        let rng = &mut Rng::new(0);
        let mut model = Net {
            first: Linear::new(4, 6, rng),
            norm: BatchNorm2d::new(6),
            last: Linear::new(6, 3, rng),
        };
        let mut optimizer = optim::build(name, None).unwrap();
        let task = Supervised::classification();
        let plan = Plan { precision: Precision::F16, ..Plan::default() };
        for number in 0..3 {
            let mut take = |factor, batch: Batch| {
                let mut scale = LossScale { factor, ..LossScale::default() };
                let mut stepping = Stepping {
                    model: &mut model,
                    optimizer: &mut *optimizer,
                    task: &task,
                    plan: &plan,
                    number,
                    scale: &mut scale,
                    replays: &mut Replays::default(),
                };
                stepping.take(&[batch]).unwrap()
            };
            // No gradient bears so large a scale in f16.
            assert!(!skip || take(2_f64.powi(40), batch(10 + number)).skipped, "{name}");
            assert!(!take(16.0, batch(number)).skipped, "{name}");
        }
        let numbers = |t: &Tensor| t.to_f64_vec().unwrap();
        let state = optimizer.state(&model).unwrap();
        let parameters = model.parameters().into_iter().map(|(_, p)| numbers(p.value()));
        let buffers = model.buffers().into_iter().map(|(_, b)| numbers(b.value()));
        let all = parameters.chain(buffers).chain(state.tensors.values().map(numbers));
        (all.collect(), state.numbers.into_iter().collect())
    }

    #[test]
    fn a_step_that_the_loss_scale_skips_leaves_no_trace_in_model_buffers_or_curvature() {
        for name in ["adam", "kfac", "ekfac", "eva", "adafisher", "adahessian", "sophia"] {
            assert_eq!(run(name, true), run(name, false), "{name}");
        }
    }
}
