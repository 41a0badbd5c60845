//! `Layerwise`: the frame of optimizers that form a direction layer by layer, from what each layer saw.
//!
//! Such an optimizer is a [`LayerRule`]: what it learns of a layer from a batch's rows, and the direction
//! that follows from a gradient. Observing, momentum, the KL clip, coverage, saving and resuming are the
//! same for all and are written here once:
//!
//! ```text
//! rows    a [R, n], d [R, m] of each layer                       curvature/layer_rows.rs
//! P       = the rule's direction of the gradient [W | b]
//! ν       = min(1, √(c / (α² Σ ⟨P, ∇L⟩)))                        the KL clip: Ba et al. 2017
//! Δ       ← μ Δ − α ν P,   θ ← θ + Δ − α κ θ
//! ```
//! Dense layers, convolutions and transposed ones (each group by itself) are layers here, and the bias of a
//! transposed convolution is one of its own. Other parameters (norms,
//! embeddings, uses outside layers) move along their gradient, and coverage says so. A frozen weight or
//! bias counts as one without a gradient. A batch with a row that is not finite is not learned from
//! ([`Layerwise::skipped`]); a gradient that is not finite is refused.

mod state;

use std::collections::BTreeMap;

use engine::{DType, Error, Gradients, ParamId, Parameter, Parameters, Result, Tensor, room};
use kernels::parallel;
use kernels::pool::Buffer;

use super::descent::{Descent, Directions, contiguous, fill_in};
use super::moments::{Moments, check_gradients};
use crate::algebra::axes::scratch;
use crate::algebra::pattern::Pattern;
use crate::check::{below_one, demand, not_negative};
use crate::curvature::communicator::{Communicator, Local, exchange};
use crate::curvature::estimate::layer_rows::{LayerRows, LayerSeen, Seen};
use crate::optimizer::coverage::Coverage;
use crate::{CurvatureSource, Fisher, LongSides, Optimizer, State};

/// What is kept of one layer, by name.
pub type LayerState = Vec<(&'static str, Buffer<f64>)>;

/// The mathematics of an optimizer that works layer by layer.
pub trait LayerRule: std::fmt::Debug {
    /// The optimizer's name.
    fn name(&self) -> &'static str;

    /// Refuses constants out of their ranges.
    ///
    /// # Errors
    /// [`Error::Argument`].
    fn check(&self) -> Result<()>;

    /// The part that all rules share.
    fn common(&self) -> &LayerStep;

    /// The same, to set the rate.
    fn common_mut(&mut self) -> &mut LayerStep;

    /// What is kept of a layer of n inputs (the bias's constant among them) and m outputs before it
    /// has been seen.
    fn start(&self, n: usize, m: usize) -> LayerState;

    /// The words for a layer of n inputs and m outputs.
    fn words(&self, n: usize, m: usize) -> String;

    /// Learns from what the layer saw in the batch of step `t`, counted from 1. Means are taken over all
    /// `workers` ([`Seen::input_moment`] and its neighbours), so that each of them learns the same.
    ///
    /// # Errors
    /// Linear algebra, the communicator's.
    fn learn(
        &self,
        t: u64,
        seen: &Seen,
        kept: &mut LayerState,
        workers: &mut dyn Communicator,
    ) -> Result<()>;

    /// The direction of a gradient [m, n].
    ///
    /// # Errors
    /// Linear algebra.
    fn direction(
        &self,
        kept: &LayerState,
        gradient: &[f64],
        n: usize,
        m: usize,
    ) -> Result<Buffer<f64>>;
}

/// The constants that are common to all rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerStep {
    /// α, the learning rate.
    pub rate: f64,
    /// μ, applied to the previous update.
    pub momentum: f64,
    /// c, the bound on α² ⟨P, ∇L⟩; `None` for no clip.
    pub kl_clip: Option<f64>,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// Whose labels the output gradients come from.
    pub fisher: Fisher,
    /// Steps between two looks at the layers.
    pub learn_every: u64,
    /// The seed of sampled labels.
    pub seed: u64,
    /// How much is kept of a matrix by the inputs (the bias's constant counts as one) or the outputs.
    pub sides: LongSides,
}

impl LayerStep {
    /// What is kept along n inputs and along m outputs.
    #[must_use]
    pub fn patterns(&self, n: usize, m: usize) -> [Pattern; 2] {
        [self.sides.of(n), self.sides.of(m)]
    }

    /// The words for two factors: `outputs ⊗ inputs`.
    pub(crate) fn words(&self, n: usize, m: usize) -> String {
        let [inputs, outputs] = self.patterns(n, m).map(|side| side.words());
        format!("{outputs} ⊗ {inputs}")
    }
}

impl Default for LayerStep {
    /// α 0.1, μ 0.9, clip 10⁻³, true labels, a look at every step.
    fn default() -> Self {
        Self {
            rate: 0.1,
            momentum: 0.9,
            kl_clip: Some(1e-3),
            weight_decay: 0.0,
            fisher: Fisher::Empirical,
            learn_every: 1,
            seed: 0,
            sides: LongSides::default(),
        }
    }
}

/// The optimizer of a [`LayerRule`].
#[derive(Debug)]
pub struct Layerwise<R> {
    rule: R,
    frame: Frame,
}

/// All of it but the rule: compiled once for all rules.
#[derive(Debug)]
struct Frame {
    rows: LayerRows,
    layers: BTreeMap<ParamId, Kept>,
    /// Δ
    updates: Moments,
    steps: u64,
    skipped: u64,
    /// The paths of the last model that was stepped, for errors.
    paths: BTreeMap<ParamId, String>,
    /// What the step's batch has taught, until the step is taken; none of a batch that was skipped.
    learned: Option<Option<BTreeMap<ParamId, Kept>>>,
}

/// What is kept of one weight's layer.
#[derive(Debug, Clone)]
struct Kept {
    bias: Option<ParamId>,
    n: usize,
    m: usize,
    /// Whether the weight of a group is [n, m].
    transposed: bool,
    /// The looks at it.
    looks: u64,
    groups: Vec<LayerState>,
}

impl Kept {
    /// n without the bias's constant.
    fn width(&self) -> usize {
        self.n - usize::from(self.bias.is_some())
    }

    /// Where the weight from input j to output i stands in its group.
    fn place(&self, i: usize, j: usize) -> usize {
        if self.transposed { j * self.m + i } else { i * self.width() + j }
    }

    /// A group's gradient [W | b], [m, n]: zeros for what has none.
    fn joint(&self, group: usize, w: Option<&[f64]>, b: Option<&[f64]>) -> Result<Buffer<f64>> {
        let (m, n, width) = (self.m, self.n, self.width());
        let w = w.map(|w| &w[group * m * width..]);
        let mut joint = scratch(m * n)?;
        parallel::rows(&mut joint, n, n, |i, row| {
            let (weights, bias) = row.split_at_mut(width);
            match w {
                Some(w) if self.transposed => {
                    weights.iter_mut().enumerate().for_each(|(j, x)| *x = w[self.place(i, j)]);
                }
                Some(w) => weights.copy_from_slice(&w[self.place(i, 0)..][..width]),
                None => weights.fill(0.0),
            }
            bias.fill(b.map_or(0.0, |b| b[group * m + i]));
        });
        Ok(joint)
    }

    /// Takes a group's direction apart: what its weight gets, and what is appended for its bias.
    fn part(&self, direction: &[f64], weight: &mut [f64], biases: &mut Vec<f64>) {
        let (n, width) = (self.n.max(1), self.width());
        biases.extend(direction.chunks_exact(n).flat_map(|row| &row[width..]));
        if self.transposed {
            for (i, row) in direction.chunks_exact(n).enumerate() {
                let entries = row[..width].iter().enumerate();
                entries.for_each(|(j, p)| weight[self.place(i, j)] = *p);
            }
            return;
        }
        parallel::rows(weight, width, width, |i, weights| {
            weights.copy_from_slice(&direction[i * n..][..width]);
        });
    }
}

impl<R: LayerRule> Layerwise<R> {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`] when a constant is outside its range.
    pub fn new(rule: R) -> Result<Self> {
        let (op, step) = (rule.name(), *rule.common());
        not_negative(op, "rate", step.rate)?;
        below_one(op, "momentum", step.momentum)?;
        not_negative(op, "weight_decay", step.weight_decay)?;
        step.kl_clip.map_or(Ok(()), |c| demand(op, "kl_clip", c, "positive", c > 0.0))?;
        step.fisher.check(op)?;
        step.sides.check(op)?;
        rule.check()?;
        let rows = LayerRows::new(step.fisher, step.learn_every, step.seed);
        let updates = Moments::new(&["update"]);
        let (layers, learned) = (BTreeMap::new(), None);
        let paths = BTreeMap::new();
        let frame = Frame { rows, layers, updates, steps: 0, skipped: 0, paths, learned };
        Ok(Self { rule, frame })
    }

    /// The constants.
    #[must_use]
    pub const fn config(&self) -> &R {
        &self.rule
    }

    /// What is kept of a weight's layer (of its first group) under a name.
    #[must_use]
    pub fn kept(&self, weight: &Parameter, name: &str) -> Option<&[f64]> {
        let Frame { learned, layers, .. } = &self.frame;
        let learned = learned.iter().flatten().find_map(|learned| learned.get(&weight.id()));
        let state = learned.or_else(|| layers.get(&weight.id()))?.groups.first()?;
        state.iter().find(|(known, _)| *known == name).map(|(_, values)| &**values)
    }

    /// Batches that were not learned from because a row was not finite.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.frame.skipped + matches!(self.frame.learned, Some(None)) as u64
    }
}

impl Frame {
    /// Learns from the rows of the step's batch, this worker's and the others'. It counts when the step is
    /// taken.
    fn learn(&mut self, rule: &dyn LayerRule, workers: &mut dyn Communicator) -> Result<()> {
        let mut learned = BTreeMap::new();
        let seen = self.rows.take();
        let finite = seen.values().flat_map(|layer| &layer.groups).all(Seen::is_finite);
        // One worker's bad row is everybody's: all of them learn, or none. And all have the same layers.
        let sizes = seen.values().flat_map(|layer| [layer.n, layer.m, layer.groups.len()]);
        let mut vote: Vec<f64> = sizes.map(|size| size as f64).collect();
        vote.push(f64::from(!finite));
        exchange(vote.iter_mut(), workers)?;
        if vote.pop() > Some(0.0) {
            self.learned = Some(None);
            return Ok(());
        }
        for (weight, layer) in seen {
            let old = self.layers.get(&weight).cloned();
            let fits = |kept: &Kept| {
                (kept.n, kept.m, kept.groups.len()) == (layer.n, layer.m, layer.groups.len())
            };
            let mut kept = match old.filter(fits) {
                Some(kept) => kept,
                None => Self::first(rule, &layer)?,
            };
            kept.looks += 1;
            for (state, seen) in kept.groups.iter_mut().zip(&layer.groups) {
                let done = rule.learn(kept.looks, seen, state, workers);
                done.map_err(|error| self.in_layer(error, weight, &layer))?;
            }
            learned.insert(weight, kept);
        }
        self.learned = Some(Some(learned));
        Ok(())
    }

    /// What is kept of a layer that was not seen before.
    fn first(rule: &dyn LayerRule, layer: &LayerSeen) -> Result<Kept> {
        let LayerSeen { n, m, bias, transposed, .. } = *layer;
        // Rules keep at most two matrices of each side and one of both, and work in as many again.
        let sides = rule.common().sides;
        let each = sides.of(n).numbers() + sides.of(m).numbers() + n.saturating_mul(m);
        let numbers = each.saturating_mul(4 * layer.groups.len());
        room::expect(rule.name(), numbers.saturating_mul(size_of::<f64>()))?;
        let groups = layer.groups.iter().map(|_| rule.start(n, m)).collect();
        Ok(Kept { bias, n, m, transposed, looks: 0, groups })
    }

    /// An error of one layer, by its path, or its sizes if no step has told that.
    fn in_layer(&self, error: Error, weight: ParamId, layer: &LayerSeen) -> Error {
        match self.paths.get(&weight) {
            _ if !matches!(error, Error::Linalg { .. }) => error,
            Some(path) => error.in_layer(path),
            None => error.in_layer(&format!("a layer of {} to {}", layer.n, layer.m)),
        }
    }

    /// The step is taken.
    fn commit(&mut self) {
        match self.learned.take() {
            Some(Some(learned)) => self.layers.extend(learned),
            Some(None) => self.skipped += 1,
            None => {}
        }
        self.rows.commit();
        self.steps += 1;
    }

    fn take_step(
        &mut self,
        rule: &dyn LayerRule,
        model: &mut dyn Parameters,
        grads: &Gradients,
    ) -> Result<()> {
        check_gradients(model, grads)?;
        let gradients = contiguous(model, grads)?;
        self.paths = model.parameters().into_iter().map(|(path, p)| (p.id(), path)).collect();
        // Estimate, unless an exchange with other workers has done so.
        if self.learned.is_none() {
            self.learn(rule, &mut Local)?;
        }
        // Precondition.
        let directions = self.directions(rule, &gradients)?;
        // Step.
        let LayerStep { rate, momentum, weight_decay, kl_clip: bound, .. } = *rule.common();
        let descent = Descent { momentum, decay: rate * weight_decay, rate, bound };
        descent.step(model, &directions, &gradients, &mut self.updates)
    }

    /// P for every parameter with a gradient.
    fn directions(&self, rule: &dyn LayerRule, gradients: &Directions) -> Result<Directions> {
        let mut all = BTreeMap::new();
        let learned = self.learned.iter().flatten().flatten();
        let layers: BTreeMap<_, _> = self.layers.iter().chain(learned).collect();
        for (&weight, kept) in layers {
            let covered = |param| self.rows.covering(param) == Some(weight);
            let grad = |param| gradients.get(&param).filter(|_| covered(param));
            let (weights, biases) = (grad(weight), kept.bias.and_then(grad));
            if weights.is_none() && biases.is_none() {
                continue;
            }
            let wide = |x: Option<&Tensor>| x.map(|x| x.to_dtype(DType::F64)).transpose();
            let (w, b) = (wide(weights)?, wide(biases)?);
            let w = w.as_ref().map(Tensor::as_slice::<f64>).transpose()?;
            let b = b.as_ref().map(Tensor::as_slice::<f64>).transpose()?;
            let of_group = kept.m * kept.width();
            let mut of_weight = scratch(kept.groups.len() * of_group)?;
            let mut of_bias = Vec::new();
            for (group, state) in kept.groups.iter().enumerate() {
                let joint = kept.joint(group, w, b)?;
                let direction = rule.direction(state, &joint, kept.n, kept.m)?;
                kept.part(&direction, &mut of_weight[group * of_group..][..of_group], &mut of_bias);
            }
            let parts = [(Some(weight), weights, of_weight), (kept.bias, biases, of_bias.into())];
            for (id, gradient, direction) in parts {
                if let (Some(id), Some(gradient)) = (id, gradient) {
                    all.insert(id, Tensor::from_buffer(direction, *gradient.shape())?);
                }
            }
        }
        fill_in(&mut all, gradients);
        Ok(all)
    }

    fn words(&self, rule: &dyn LayerRule, parameter: &Parameter) -> String {
        if let Some(op) = self.rows.uncovered(parameter.id()) {
            return format!("gradient: used by {op}");
        }
        let covering = self.rows.covering(parameter.id());
        match covering.and_then(|weight| self.layers.get(&weight)) {
            None => "gradient: no layer seen yet".into(),
            Some(kept) => match kept.groups.len() {
                1 => rule.words(kept.n, kept.m),
                groups => format!("{groups} groups of {}", rule.words(kept.n, kept.m)),
            },
        }
    }

    /// What is kept of a layer is counted with its weight.
    fn bytes(&self, parameter: &Parameter) -> usize {
        let groups = self.layers.get(&parameter.id()).map_or(&[][..], |kept| &kept.groups);
        let numbers: usize = groups.iter().flatten().map(|(_, values)| values.len()).sum();
        numbers * size_of::<f64>() + self.updates.bytes(parameter)
    }

    fn step(
        &mut self,
        rule: &dyn LayerRule,
        model: &mut dyn Parameters,
        grads: &Gradients,
    ) -> Result<()> {
        let done = room::within("step", || self.take_step(rule, model, grads));
        if done.is_ok() {
            self.commit();
        } else {
            self.discard();
        }
        done
    }

    fn discard(&mut self) {
        self.learned = None;
        self.rows.discard();
    }
}

impl<R: LayerRule> Optimizer for Layerwise<R> {
    fn name(&self) -> &'static str {
        self.rule.name()
    }

    fn curvature(&mut self) -> Option<&mut dyn CurvatureSource> {
        Some(&mut self.frame.rows)
    }

    fn exchange(&mut self, communicator: &mut dyn Communicator) -> Result<()> {
        self.frame.learn(&self.rule, communicator)
    }

    fn discard(&mut self) {
        self.frame.discard();
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        self.frame.step(&self.rule, model, grads)
    }

    fn options(&self) -> String {
        format!("{:?}", self.rule)
    }

    fn rate(&self) -> f64 {
        self.rule.common().rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rule.common_mut().rate = rate;
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let Self { rule, frame } = self;
        Coverage::of(model, |p| frame.words(rule, p), |p| frame.bytes(p))
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        self.frame.save(&self.rule, model)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let rate = self.frame.load(&self.rule, model, state)?;
        self.set_rate(rate);
        Ok(())
    }
}
