//! The audit: every approximation of a layer's Fisher block beside the block itself, on one batch.
//!
//! One tape is swept once ([`RecordedBatch`]); the very estimators that the optimizers use see its
//! records; and for each layer the exact block F ([`ExactBlock`]) is the judge. With ∇L the gradient of
//! the mean loss in the layer and B an approximation,
//!
//! ```text
//! error     ‖F − B‖ / ‖F‖                         as it is
//! basis     the part of it that B's eigenvectors cannot help        (curvature/operator)
//! shape     min over c of ‖F − c B‖ / ‖F‖         with its scale forgiven
//! cosine    of (B + λ_B I)⁻¹ ∇L and (F + λ I)⁻¹ ∇L         the step as the method takes it
//! aligned   the same for (c B + λ I)⁻¹ ∇L, c = tr F / tr B  at the block's own scale and damping
//! damped    what of B + λ_B I is curvature                          (curvature/damped)
//! ```
//! λ_B is the audit's λ for methods whose B is in units of the Fisher matrix, and AdaFisher's own
//! for its presets: their factors are normalised to about [0, 1], so their error as it is says nothing
//! and `shape` and `aligned` are the fair columns. The presets average over steps and start differently; here
//! their factors have settled, as if this batch had been seen forever.
//!
//! K-FAC stands there with λ I added to its block; once more (cut) with factors in blocks, where a side is
//! longer than [`AuditConfig::block`]; and (π) as it is damped by default: λ in the factors, which adds to the
//! block what the factors share out between them.
//!
//! The gradient row (B = 0) is the one to beat: an approximation whose cosine is below it does harm.

mod approximations;
mod bounds;
mod damped;
mod factor_figures;
mod gradient_noise;
mod operator;

pub use bounds::gershgorin;
pub use damped::Damped;
pub use factor_figures::{FactorFigures, NOISE, Noise};
pub use gradient_noise::GradientNoise;
pub use operator::{Distance, LayerOperator, Layout, Part};

use engine::{
    Error, Layer, LayerRecord, Likelihood, ParamId, Parameter, Parameters, Result, Rng, Tape, Var,
};

use crate::algebra::flat::dot;
use crate::curvature::Fisher;
use crate::curvature::block::kronecker::Kronecker;
use crate::curvature::exact::exact_block::ExactBlock;
use crate::curvature::exact::recorded::RecordedBatch;
use crate::curvature::form::Form;
use approximations::{Approximation, Estimates};

/// What to audit against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditConfig {
    /// Whose labels the blocks are of. AdaFisher is defined with the true ones and keeps to them.
    pub fisher: Fisher,
    /// λ, in units of the curvature of the mean loss.
    pub damping: f64,
    /// The longest side of K-FAC's factors in the row that has them cut.
    pub block: usize,
    /// Of drawn labels, and of the noise in the factors' figures.
    pub seed: u64,
}

impl Default for AuditConfig {
    /// The exact Fisher, λ = 10⁻³, blocks of 32.
    fn default() -> Self {
        Self { fisher: Fisher::Exact, damping: 1e-3, block: 32, seed: 0 }
    }
}

/// All layers of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// In the model's order.
    pub layers: Vec<LayerAudit>,
    /// Weights whose block cannot be had from records, and why.
    pub left_out: Vec<(String, String)>,
}

/// One layer: its weight, and its bias if it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerAudit {
    /// The weight's path.
    pub path: String,
    /// What kind of layer.
    pub kind: &'static str,
    /// P, the numbers of weight and bias.
    pub size: usize,
    /// tr F / P, the mean curvature.
    pub mean_curvature: f64,
    /// The eigenvalues of F that are not 0 by the number of examples alone, descending.
    pub eigenvalues: Vec<f64>,
    /// How many eigenvalues are above the machine epsilon times the largest.
    pub rank: usize,
    /// F + λ I.
    pub damped: Damped,
    /// The approximations.
    pub lines: Vec<Line>,
    /// A and G of K-FAC (of the first group), where they are full matrices.
    pub factors: Vec<(&'static str, FactorFigures)>,
}

/// One approximation of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name.
    pub name: &'static str,
    /// From F, relative to ‖F‖.
    pub distance: Distance,
    /// Of its step with F's.
    pub cosine: f64,
    /// Of its step with F's, once its trace is F's and its λ is F's.
    pub aligned: f64,
    /// What of it is λ.
    pub damped: Damped,
    /// Its own eigenvalues, descending.
    pub eigenvalues: Vec<f64>,
    /// Bytes that the optimizer keeps for it between steps.
    pub bytes: usize,
}

/// Audits every layer of a model on one batch.
///
/// # Shape
/// outputs: on the tape, as the loss wants them · examples: the first axis of the model's input
///
/// # Errors
/// [`Error::Argument`] when λ is not positive or the terms do not fit the examples; else as
/// [`RecordedBatch::new`], and linear algebra on numbers that are not finite.
///
/// # Example
/// ```
/// use engine::{DType, Parameter, Rng, Tape, Tensor};
/// # use engine::{Likelihood, Result, Var};
/// # struct Half;
/// # impl Likelihood for Half {
/// #     fn terms(&self) -> usize { 2 }
/// #     fn nll(&self, y: &Var) -> Result<Var> { y.mul(y)?.sum_all()?.scale(0.25) }
/// #     fn sampled_seed(&self, y: &Tensor, rng: &mut Rng) -> Result<Tensor> {
/// #         Tensor::normal(*y.shape(), 0.0, 1.0, y.dtype(), rng).scale(0.5)
/// #     }
/// #     fn exact_seeds(&self, y: &Tensor) -> Result<Vec<Tensor>> {
/// #         Ok(vec![Tensor::full(*y.shape(), 0.5, y.dtype())])
/// #     }
/// # }
/// use alcyon_optim::audit::{AuditConfig, audit};
/// let weight = Parameter::new(Tensor::ones([1, 2], DType::F64));
/// let tape = Tape::new();
/// let x = tape.input(Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 0.0], [2, 2])?);
/// let y = x.linear(&tape.bind(&weight), None)?; // the loss is ½ y², averaged over 2 examples
/// let report = audit(&weight, &tape, &y, &Half, 2, AuditConfig::default())?;
/// let line = |name| report.layers[0].lines.iter().find(|line| line.name == name).unwrap();
/// assert!(line("K-FAC, expand").distance.error < 1e-7); // exact for one linear layer
/// assert!(line("diagonal").distance.error > 0.2); // F is [5 1; 1 2]
/// # Ok::<(), engine::Error>(())
/// ```
pub fn audit(
    model: &dyn Parameters,
    tape: &Tape,
    outputs: &Var,
    loss: &dyn Likelihood,
    examples: usize,
    config: AuditConfig,
) -> Result<Audit> {
    crate::check::positive("audit", "damping", config.damping)?;
    let gradients = tape.backward(&loss.nll(outputs)?)?;
    let rng = &mut Rng::new(config.seed);
    let record =
        |fisher, rng: &mut Rng| RecordedBatch::new(tape, outputs, loss, examples, fisher, rng);
    let batch = record(config.fisher, rng)?;
    let estimates = Estimates::new(&batch, &record(Fisher::Empirical, rng)?, config)?;
    let parameters = model.parameters();
    let of = |id: ParamId| parameters.iter().find(|(_, p)| p.id() == id).map(|(_, p)| *p);
    let mut report = Audit { layers: Vec::new(), left_out: Vec::new() };
    for (path, weight) in &parameters {
        let uses = batch.sweeps().first().into_iter().flatten();
        let Some(record) = uses.rev().find(|r| r.weight == weight.id()) else { continue };
        let block: Vec<&Parameter> =
            std::iter::once(*weight).chain(record.bias.and_then(of)).collect();
        let exact = match ExactBlock::new(&[&batch], &block) {
            Ok(exact) => exact,
            Err(Error::Uncovered { op, .. }) => {
                report.left_out.push((path.clone(), format!("used by {op}")));
                continue;
            }
            Err(error) => return Err(error.in_layer(path)),
        };
        let gradient = |p: &Parameter| match gradients.of(p) {
            Some(gradient) => gradient.to_f64_vec(),
            None => Ok(vec![0.0; p.value().numel()]),
        };
        let gradient = block.iter().map(|p| gradient(p)).collect::<Result<Vec<_>>>()?.concat();
        let approximations = estimates.of_layer(&block, &exact)?;
        let judge = Judge::new(&exact, gradient, config.damping)?;
        let lines = approximations.into_iter().map(|a| judge.line(a));
        let lines = lines.collect::<Result<_>>().map_err(|e| e.in_layer(path))?;
        let factors = figures(estimates.kronecker(weight), config.seed)?;
        report.layers.push(judge.layer(path.clone(), kind(record), lines, factors));
    }
    Ok(report)
}

/// The exact block, its step, and what is measured against them.
struct Judge<'a> {
    exact: &'a ExactBlock,
    eigenvalues: Vec<f64>,
    gradient: Vec<f64>,
    /// (F + λ I)⁻¹ ∇L
    step: Vec<f64>,
    damping: f64,
}

impl<'a> Judge<'a> {
    fn new(exact: &'a ExactBlock, gradient: Vec<f64>, damping: f64) -> Result<Self> {
        let step = exact.solve(damping, &gradient)?;
        let eigenvalues = descending(exact.eigenvalues()?);
        Ok(Self { exact, eigenvalues, gradient, step, damping })
    }

    fn line(&self, approximation: Approximation) -> Result<Line> {
        let Approximation { name, operator, damping, bytes } = approximation;
        let own = damping.unwrap_or(self.damping);
        let (trace, eigenvalues) = (operator.trace(), descending(operator.eigenvalues()));
        let scale = if trace > 0.0 { self.exact.trace() / trace } else { 0.0 };
        Ok(Line {
            name,
            distance: operator.distance(self.exact)?,
            cosine: self.cosine(&operator, own)?,
            aligned: self.cosine(&operator.scaled(scale), self.damping)?,
            damped: Damped::of(&eigenvalues, eigenvalues.len(), own),
            eigenvalues,
            bytes,
        })
    }

    fn cosine(&self, operator: &LayerOperator, damping: f64) -> Result<f64> {
        let step = operator.solve(damping, &self.gradient)?;
        let norms = (dot(&step, &step) * dot(&self.step, &self.step)).sqrt();
        Ok(if norms > 0.0 { dot(&step, &self.step) / norms } else { 0.0 })
    }

    fn layer(
        &self,
        path: String,
        kind: &'static str,
        lines: Vec<Line>,
        factors: Vec<(&'static str, FactorFigures)>,
    ) -> LayerAudit {
        let size = self.exact.size();
        let largest = self.eigenvalues.first().copied().unwrap_or(0.0);
        let threshold = f64::EPSILON * size as f64 * largest;
        LayerAudit {
            path,
            kind,
            size,
            mean_curvature: self.exact.trace() / size.max(1) as f64,
            rank: self.eigenvalues.iter().filter(|&&x| x > threshold).count(),
            damped: Damped::of(&self.eigenvalues, size, self.damping),
            eigenvalues: self.eigenvalues.clone(),
            lines,
            factors,
        }
    }
}

fn descending(mut eigenvalues: Vec<f64>) -> Vec<f64> {
    eigenvalues.sort_by(|x, y| y.total_cmp(x));
    eigenvalues
}

/// The figures of A and G, where they are full matrices.
fn figures(block: Option<&Kronecker>, seed: u64) -> Result<Vec<(&'static str, FactorFigures)>> {
    let Some(block) = block.filter(|block| block.form != Form::ScaleShift) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    if block.form != Form::Lookup {
        all.push((
            "A",
            FactorFigures::of(&block.input_factor(0)?.to_matrix(), block.inputs(), seed)?,
        ));
    }
    all.push((
        "G",
        FactorFigures::of(&block.output_factor(0)?.to_matrix(), block.outputs(), seed)?,
    ));
    Ok(all)
}

fn kind(record: &LayerRecord) -> &'static str {
    match record.layer {
        Layer::Dense => "dense",
        Layer::Conv2d(geometry) if geometry.groups > 1 => "grouped convolution",
        Layer::Conv2d(_) => "convolution",
        Layer::ConvTranspose2d(_) => "transposed convolution",
        Layer::Bias => "bias of a transposed convolution",
        Layer::Lookup => "embedding",
        Layer::ScaleShift(norm) => norm.name(),
        _ => "layer",
    }
}
