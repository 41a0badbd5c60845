//! `kfac_family_onelayer`, and the EKFAC part of `kfac_mlp_ce`: rules that work layer by layer.

use engine::{Gradients, Layer, LayerRecord, Parameter, Parameters, Tape};
use kernels::linalg;
use optim::update_inverse;
use optim::{
    Ekfac, EkfacConfig, EvaConfig, Fisher, FoofConfig, MkorConfig, Optimizer, SkfacConfig, backward,
};
use optim::{LayerRule, LayerStep, Layerwise};

use crate::document::{Array, Document, Result, wrong};
use crate::expected::{Expected, line};
use crate::kronecker::{Problem, joint};
use crate::report::{Comparison, Line};

/// Rate 1 and nothing else, so that a step is the direction.
fn bare(fisher: Fisher) -> LayerStep {
    LayerStep { rate: 1.0, momentum: 0.0, kl_clip: None, fisher, ..LayerStep::default() }
}

/// One layer with inputs X, gradients of its terms D and the gradient g.
struct OneLayer {
    x: Array,
    d: Array,
    g: Array,
}

impl OneLayer {
    /// One step of a rule from zeros; the optimizer, the weight and the direction.
    fn step<R: LayerRule>(&self, rule: R) -> Result<(Layerwise<R>, Parameter, Vec<f64>)> {
        let mut optimizer = Layerwise::new(rule)?;
        let mut weight = Parameter::new(self.g.tensor()?.scale(0.0)?);
        let terms = self.d.shape[0];
        let record = LayerRecord {
            layer: Layer::Dense,
            weight: weight.id(),
            weight_shape: *weight.value().shape(),
            bias: None,
            input: self.x.tensor()?,
            moments: None,
            // Records carry the 1/N of the mean.
            output_grad: self.d.tensor()?.scale(1.0 / terms as f64)?,
            is_last: false,
        };
        let Some(source) = optimizer.curvature() else { return wrong("no estimator") };
        source.begin_sweep(0);
        source.observe(&record)?;
        source.finish(terms)?;
        let mut grads = Gradients::default();
        grads.set(&weight, self.g.tensor()?);
        optimizer.step(&mut weight, &grads)?;
        let direction = weight.value().scale(-1.0)?.to_f64_vec()?;
        Ok((optimizer, weight, direction))
    }
}

/// What a rule keeps under a name.
fn kept<'a, R: LayerRule>(
    optimizer: &'a Layerwise<R>,
    weight: &Parameter,
    name: &str,
) -> Result<&'a [f64]> {
    optimizer.kept(weight, name).map_or_else(|| wrong(format!("no `{name}`")), Ok)
}

/// Eva, FOOF, SKFAC and MKOR on one layer.
pub(crate) fn family(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (inputs, hyper) = (root.get("inputs")?, root.get("hyper")?);
    let expected = Expected::of(&root)?;
    hyper.only(&["damping", "gamma"])?;
    let (damping, gamma) = (hyper.get("damping")?.number()?, hyper.get("gamma")?.number()?);
    let one = OneLayer {
        x: inputs.get("X")?.array()?,
        d: inputs.get("D")?.array()?,
        g: expected.array("g")?,
    };
    let step = bare(Fisher::Empirical);
    let mut lines = vec![line(file, "moments", &root, |comparison| {
        let config = EkfacConfig { step, damping, ..EkfacConfig::default() };
        let (optimizer, weight, _) = one.step(config)?;
        for (name, golden) in [("a", "A"), ("g", "G")] {
            let got = kept(&optimizer, &weight, name)?;
            comparison.numbers(golden, got, &expected.array(golden)?.data)?;
        }
        let g = one.d.tensor()?.transpose(0, 1)?.matmul(&one.x.tensor()?)?;
        let g = g.scale(1.0 / one.d.shape[0] as f64)?;
        comparison.tensor("g", &g, &one.g)
    })];
    lines.push(line(file, "eva", &root, |comparison| {
        let config = EvaConfig { step, damping, ..EvaConfig::default() };
        let (optimizer, weight, direction) = one.step(config)?;
        for (name, golden) in [("mean_a", "mean_a"), ("mean_d", "mean_g")] {
            let got = kept(&optimizer, &weight, name)?;
            comparison.numbers(golden, got, &expected.array(golden)?.data)?;
        }
        comparison.numbers("direction", &direction, &expected.array("eva")?.data)
    }));
    lines.push(line(file, "foof", &root, |comparison| {
        let config = FoofConfig { step, damping, ..FoofConfig::default() };
        let (_, _, direction) = one.step(config)?;
        comparison.numbers("direction", &direction, &expected.array("foof")?.data)
    }));
    lines.push(line(file, "skfac", &root, |comparison| {
        let (optimizer, weight, _) = one.step(SkfacConfig { step, damping })?;
        for (name, golden) in [("a_inverse", "skfac_A_inv"), ("g_inverse", "skfac_G_inv")] {
            let got = kept(&optimizer, &weight, name)?;
            comparison.numbers(golden, got, &expected.array(golden)?.data)?;
        }
        Ok(())
    }));
    lines.push(line(file, "mkor", &root, |comparison| {
        let config = MkorConfig { step, decay: gamma, ..MkorConfig::default() };
        let (optimizer, weight, _) = one.step(config)?;
        let mut inverse = kept(&optimizer, &weight, "a_inverse")?.to_vec();
        comparison.numbers("one", &inverse, &expected.array("mkor_exact_after1")?.data)?;
        update_inverse(&mut inverse, &one.x.data[..one.x.shape[1]], gamma);
        comparison.numbers("two", &inverse, &expected.array("mkor_exact_after2")?.data)
    }));
    lines.extend(expected.rest(file)?);
    Ok(lines)
}

/// Eigenvectors, corrected eigenvalues and directions of both layers of the two-layer network.
pub(crate) fn ekfac(
    comparison: &mut Comparison,
    problem: &Problem<'_>,
    expected: &Expected<'_>,
    (kind, fisher, damping): (&str, Fisher, f64),
) -> Result<()> {
    let config = EkfacConfig { step: bare(fisher), damping, ..EkfacConfig::default() };
    let mut optimizer = Ekfac::new(config)?;
    let (before, mut network) = ((problem.network)()?, (problem.network)()?);
    let tape = Tape::new();
    let logits = network.forward(&tape, problem.x.clone())?;
    let pass = backward(&tape, &logits, problem.loss, &mut optimizer)?;
    optimizer.step(&mut network, &pass.gradients)?;
    for layer in ["1", "2"] {
        let (weight, bias) = network.layer(layer)?;
        let name = |part: &str| format!("ekfac{layer}_{kind}_{part}");
        let part = |name: &str| kept(&optimizer, weight, name);
        for (moment, vectors, value, vector) in
            [("a", "u", "evalA", "QA"), ("g", "v", "evalG", "QG")]
        {
            let n = part(moment)?.len().isqrt();
            let eigen = linalg::symmetric_eigen(part(moment)?, n);
            let values = eigen.or_else(|e| wrong(e.to_string()))?.values;
            comparison.numbers(value, &values, &expected.array(&name(value))?.data)?;
            if expected.has(&name(vector)) {
                // Eigenvectors have no sign.
                let sizes = |x: &[f64]| x.iter().map(|x| x.abs()).collect::<Vec<f64>>();
                let golden = expected.array(&name(vector))?;
                comparison.numbers(vector, &sizes(part(vectors)?), &sizes(&golden.data))?;
            }
        }
        comparison.numbers("scale", part("s")?, &expected.array(&name("scale"))?.data)?;
        let (old_weight, old_bias) = before.layer(layer)?;
        let (old, new) = (
            joint(old_weight.value(), old_bias.map(|b| b.value()))?,
            joint(weight.value(), bias.map(|b| b.value()))?,
        );
        let direction: Vec<f64> = old.data.iter().zip(&new.data).map(|(a, b)| a - b).collect();
        comparison.numbers("direction", &direction, &expected.array(&name("precond"))?.data)?;
        // What EKFAC is not: the square of the batch's own gradient, along the same axes.
        let wrong_scale = format!("ekfac{layer}_batchgrad_scale_NOT_ekfac");
        if kind == "empirical" && expected.has(&wrong_scale) {
            let of = |p: &Parameter| pass.gradients.of(p).map_or_else(|| wrong("no gradient"), Ok);
            let g = joint(of(weight)?, bias.map(of).transpose()?)?.tensor()?;
            let square = |x: &[f64], n: usize| engine::Tensor::from_slice(x, [n, n]);
            let v = square(part("v")?, g.shape()[0])?.transpose(0, 1)?;
            let turned = v.matmul(&g)?.matmul(&square(part("u")?, g.shape()[1])?)?;
            let squared = turned.mul(&turned)?.to_f64_vec()?;
            comparison.numbers(&wrong_scale, &squared, &expected.array(&wrong_scale)?.data)?;
        }
    }
    comparison.number("parameters", network.parameters().len() as f64, 4.0)
}
