//! `kfac_ema`: what running average the factors get, and one damped inverse.

use engine::{Layer, LayerObserver, LayerRecord, Parameter, Tensor};
use optim::curvature::{
    AverageStart, DampingRule, Factor, KroneckerFactors, Share, damped_inverses, pi,
};
use optim::{CurvatureSource, Fisher};

use crate::document::{Array, Document, Node, Result, wrong};
use crate::expected::{Expected, line};
use crate::report::{Comparison, Line};

/// The names of the conventions in the file, and what they are called here.
const CONVENTIONS: [(&str, AverageStart); 7] = [
    ("weighted_average_kfac_jax", AverageStart::Zero),
    ("zero_init_bias_corrected", AverageStart::Zero),
    ("zero_init", AverageStart::Uncorrected),
    ("identity_init", AverageStart::Identity),
    ("first_value_init", AverageStart::First),
    ("martens_paper", AverageStart::Mean),
    ("martens_min_1_1k", AverageStart::LateMean),
];

/// One line per convention.
pub(crate) fn replay(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let expected = Expected::of(&root)?;
    let decay = root.get("hyper")?.get("decay")?.number()?;
    let mut lines = Vec::new();
    for (name, start) in CONVENTIONS {
        lines.push(line(file, name, &root, |comparison| {
            let factors = root.get("inputs")?.get("factors")?.array()?.slices()?;
            averages(comparison, &factors, (decay, start), &expected.array(name)?)
        }));
    }
    if expected.has("pi_case") {
        let case = expected.get("pi_case")?;
        lines.push(line(file, "pi_case", &root, |comparison| damped(comparison, &case)));
    }
    lines.extend(expected.rest(file)?);
    Ok(lines)
}

/// Feeds the estimator one record per factor F, whose inputs have the second moment F.
fn averages(
    comparison: &mut Comparison,
    factors: &[Array],
    (decay, start): (f64, AverageStart),
    golden: &Array,
) -> Result<()> {
    let Some(&[n, m]) = factors.first().map(|f| f.shape.as_slice()) else {
        return wrong("the factors are not matrices");
    };
    let weight = Parameter::new(Tensor::zeros([1, n], engine::DType::F64));
    let mut estimator = KroneckerFactors::new(Fisher::Empirical, Share::Expand);
    estimator = estimator.decay(decay).start(start);
    for (step, (factor, golden)) in factors.iter().zip(golden.slices()?).enumerate() {
        // F = 1/n Σ over rows of a aᵀ, if the rows are those of √n F^½.
        let root = kernels::linalg::power(&factor.data, n, 0.5, 0.0);
        let root = root.or_else(|e| wrong(e.to_string()))?;
        let input = Tensor::from_vec(root, [n, m])?.scale((n as f64).sqrt())?;
        estimator.begin_sweep(0);
        estimator.observe(&LayerRecord {
            layer: Layer::Dense,
            weight: weight.id(),
            weight_shape: *weight.value().shape(),
            bias: None,
            input,
            moments: None,
            output_grad: Tensor::ones([n, 1], engine::DType::F64),
            is_last: false,
        })?;
        estimator.finish(n)?;
        estimator.fold()?;
        let Some(average) = estimator.of(&weight) else { return wrong("no factors") };
        comparison.numbers(&format!("average after step {step}"), &average.a, &golden.data)?;
    }
    Ok(())
}

/// (A + π √λ I)⁻¹ and (G + √λ/π I)⁻¹.
fn damped(comparison: &mut Comparison, case: &Node<'_>) -> Result<()> {
    let square = |array: &Array| Ok(Factor::full(array.shape[0], array.data.clone())?);
    let (a, g) = (case.get("A")?.array()?, case.get("G")?.array()?);
    let (a, g): (Factor<'_>, Factor<'_>) = match (square(&a), square(&g)) {
        (Ok(a), Ok(g)) => (a, g),
        (Err(failure), _) | (_, Err(failure)) => return Err(failure),
    };
    let lambda = case.get("damping")?.number()?;
    let Some(pi) = pi(&g, &a) else { return wrong("π is not defined") };
    comparison.number("pi", pi, case.get("pi")?.number()?)?;
    let inverse = damped_inverses(&g, &a, lambda, DampingRule::Pi)?;
    for (half, name) in [(inverse.a, "A_damped_inv"), (inverse.g, "G_damped_inv")] {
        let [matrix] = half.matrices.as_slice() else { return wrong("no inverse matrix") };
        comparison.numbers(name, &matrix.to_f64_vec()?, &case.get(name)?.array()?.data)?;
    }
    Ok(())
}
