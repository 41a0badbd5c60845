//! The seeds of the exact Fisher matrix: one for each column of the outputs' root, and for each place of a term in
//! its example.
//!
//! ```text
//! F = 1/N Σ over terms t, columns c of d_tc d_tcᵀ,     d_tc = N ∂/∂θ ⟨s_c at t, outputs⟩
//! ```
//! The labels of two terms are independent, so no product of two terms belongs to F. A sweep adds up what comes
//! back from all of its seed; examples stay apart in a layer's rows, the terms of one example (tokens) do not. So a
//! sweep gets one term of every example: one sweep for all terms would add Σ over t ≠ t' of d_tc d_t'cᵀ. With drawn
//! labels such products have mean 0; with the true ones the gradient of an *example* is what is meant.
//!
//! Cost: columns × places sweeps, where one draw of labels takes one.

use engine::{Error, LayerObserver, LayerRecord, Likelihood, ParamId, Result, Tensor, Var};

use crate::curvature::CurvatureSource;

/// The seeds of the exact Fisher matrix of some outputs, each with one term of every example.
///
/// # Shape
/// outputs: the loss's terms in order, those of one example together
///
/// # Errors
/// [`Error::Argument`] when the terms are not the same number for each example; the loss's own.
pub(crate) fn exact_seeds(
    loss: &dyn Likelihood,
    outputs: &Tensor,
    examples: usize,
) -> Result<impl Iterator<Item = Result<Tensor>>> {
    let terms = loss.terms();
    if examples == 0 || !terms.is_multiple_of(examples) {
        return Err(Error::Argument {
            op: "exact Fisher",
            name: "examples",
            expected: "a divisor of the loss's terms",
            got: format!("{examples} for {terms} terms"),
        });
    }
    let places = terms / examples;
    let columns = loss.exact_seeds(outputs)?.into_iter();
    Ok(columns
        .flat_map(move |seed| (0..places).map(move |place| at_place(&seed, terms, places, place))))
}

/// A seed with everything but the terms at one place of their examples set to 0.
fn at_place(seed: &Tensor, terms: usize, places: usize, place: usize) -> Result<Tensor> {
    if places == 1 {
        return Ok(seed.clone());
    }
    let width = (seed.numel() / terms.max(1)).max(1);
    let values = seed.to_f64_vec()?;
    let kept = |i: usize| if i / width % places == place { values[i] } else { 0.0 };
    Tensor::from_fn(*seed.shape(), seed.dtype(), kept).to_device(seed.device())
}

/// How many examples outputs are of: their first axis, if the loss has as many terms for each row of it.
pub(crate) fn examples(loss: &dyn Likelihood, outputs: &Var) -> usize {
    let (terms, rows) = (loss.terms(), outputs.shape().first().copied().unwrap_or(1));
    if rows > 0 && terms.is_multiple_of(rows) { rows } else { terms }
}

/// Passes the records of an exact sweep on, and refuses layers that have seen fewer examples than the outputs
/// say: then several of the terms in the seed are one example's.
pub(crate) struct Apart<'a> {
    pub(crate) source: &'a mut dyn CurvatureSource,
    /// The terms in a seed.
    pub(crate) examples: usize,
}

impl LayerObserver for Apart<'_> {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        let seen = record.examples();
        // A layer that all examples share (a query that is learned) sees one.
        if seen > 1 && seen < self.examples && self.examples.is_multiple_of(seen) {
            return Err(Error::Argument {
                op: "exact Fisher",
                name: "outputs",
                expected: "with the examples on their first axis, as the layers see them ([N, T, C], not [N·T, C])",
                got: format!("{} rows of outputs, {seen} of a layer", self.examples),
            });
        }
        self.source.observe(record)
    }

    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.source.unlayered(param, op)
    }
}
