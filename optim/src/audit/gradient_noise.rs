//! How much the examples' gradients differ: their norms, their variance, the gradient noise scale.
//!
//! With d_e the gradient of example e's own loss, so that the mean over E examples is the gradient g,
//!
//! ```text
//! tr Σ = 1/(E − 1) Σ |d_e − g|² = 1/(E − 1) (Σ |d_e|² − E |g|²)      unbiased
//! |G|² ≈ |g|² − tr Σ / E                                             g has Σ/E of its own
//! B    = tr Σ / |G|²                                                 McCandlish et al. 2018, eq. 2.9
//! ```
//! B is the batch size at which noise and signal are alike: far below it a batch twice as large is worth
//! twice as much. |d_e| comes from the rows of the layers, without forming d_e
//! ([`LayerRecord::example_gradient_norms`]); only a parameter that several layers share is formed, one
//! by one, because norms of sums do not follow from norms.

use std::collections::BTreeMap;

use engine::{Error, Gradients, LayerRecord, ParamId, Parameter, Parameters, Result};

use crate::curvature::Fisher;
use crate::curvature::exact::exact_block::ExactBlock;
use crate::curvature::exact::recorded::RecordedBatch;

/// The spread of the examples' gradients over all parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientNoise {
    /// |d_e| of each example.
    pub norms: Vec<f64>,
    /// |g|², of the mean gradient.
    pub mean_square: f64,
    /// tr Σ, the variance of one example's gradient, all entries together.
    pub variance: f64,
}

impl GradientNoise {
    /// Of all trainable parameters of a model.
    ///
    /// # Errors
    /// [`Error::Argument`] when the batch was not recorded with the true labels, or has one example;
    /// [`Error::Uncovered`] for a trainable parameter that is used outside layers, or that the examples
    /// of a batch share (a table of positions).
    pub fn of(
        batch: &RecordedBatch,
        model: &dyn Parameters,
        gradients: &Gradients,
    ) -> Result<Self> {
        let refuse = |name, expected, got: String| {
            Err(Error::Argument { op: "gradient noise", name, expected, got })
        };
        if batch.fisher() != Fisher::Empirical {
            return refuse("fisher", "Empirical", format!("{:?}", batch.fisher()));
        }
        let examples = batch.examples();
        if examples < 2 {
            return refuse("examples", "at least 2", examples.to_string());
        }
        let parameters = model.parameters();
        let trainable = || parameters.iter().filter(|(_, p)| p.is_trainable());
        let used = |p: &Parameter| gradients.of(p).is_some();
        for (path, parameter) in trainable().filter(|(_, p)| used(p)) {
            if let Some(op) = batch.unlayered_use(parameter.id()) {
                return Err(Error::Uncovered { param: path.clone(), op });
            }
        }
        let records: Vec<&LayerRecord> = batch.sweeps().iter().flatten().collect();
        let mut squares = vec![0.0; examples];
        let shared = shared(&records);
        let frozen = |id| parameters.iter().any(|(_, p)| p.id() == id && !p.is_trainable());
        for record in &records {
            let of = [Some(record.weight), record.bias];
            let apart = of.iter().flatten().any(|id| shared[id] > 1 || frozen(*id));
            if !apart {
                let norms = record.example_gradient_norms()?.to_f64_vec()?;
                if norms.len() != examples {
                    let got = format!("{} in a layer, {examples} in the batch", norms.len());
                    return refuse("examples", "the same for every layer", got);
                }
                // A record's rows carry 1/E of an example's own loss.
                let scale = (examples * examples) as f64;
                squares.iter_mut().zip(norms).for_each(|(sum, norm)| *sum += scale * norm * norm);
            }
        }
        // Parameters of records that were left out are formed, each once.
        for (_, parameter) in trainable().filter(|(_, p)| used(p)) {
            let with =
                |r: &&&LayerRecord| r.weight == parameter.id() || r.bias == Some(parameter.id());
            let apart = |r: &&LayerRecord| {
                [Some(r.weight), r.bias].iter().flatten().any(|id| shared[id] > 1 || frozen(*id))
            };
            if records.iter().filter(with).any(apart) {
                let block = ExactBlock::new(&[batch], &[parameter])?;
                // Its root has rows N g / √N, and d = E g.
                let scale = (examples * examples) as f64 / batch.terms() as f64;
                let rows = block.root().chunks_exact(block.size().max(1));
                for (sum, row) in squares.iter_mut().zip(rows) {
                    *sum += scale * row.iter().map(|x| x * x).sum::<f64>();
                }
            }
        }
        let mean_square = mean_square(trainable().map(|(_, p)| *p), gradients)?;
        let total: f64 = squares.iter().sum();
        let variance = (total - examples as f64 * mean_square) / (examples - 1) as f64;
        let norms = squares.into_iter().map(f64::sqrt).collect();
        Ok(Self { norms, mean_square, variance: variance.max(0.0) })
    }

    /// |G|², what of |g|² is not noise. It can come out negative where there is hardly any signal.
    #[must_use]
    pub fn signal(&self) -> f64 {
        self.mean_square - self.variance / self.norms.len() as f64
    }

    /// B, in examples; infinite without a signal.
    #[must_use]
    pub fn scale(&self) -> f64 {
        if self.signal() > 0.0 { self.variance / self.signal() } else { f64::INFINITY }
    }
}

/// How often each parameter is used by layers.
fn shared(records: &[&LayerRecord]) -> BTreeMap<ParamId, usize> {
    let mut uses = BTreeMap::new();
    for record in records {
        for id in [Some(record.weight), record.bias].into_iter().flatten() {
            *uses.entry(id).or_insert(0) += 1;
        }
    }
    uses
}

fn mean_square<'a>(
    parameters: impl Iterator<Item = &'a Parameter>,
    gradients: &Gradients,
) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in parameters.filter_map(|p| gradients.of(p)) {
        sum += gradient.to_f64_vec()?.iter().map(|x| x * x).sum::<f64>();
    }
    Ok(sum)
}
