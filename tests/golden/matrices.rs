//! `muon_*`, `soap_*`, `splus_*`: optimizers of matrices, from gradients alone.
//!
//! Jordan et al. 2024; Vyas et al. 2025; Frans et al. 2025.

use optim::{
    Basis, CONVERGENT, Muon, MuonConfig, MuonScale, SPlus, SPlusConfig, STEEP, Soap, SoapConfig,
    newton_schulz,
};

use crate::document::{Document, Node, Result};
use crate::expected::line;
use crate::report::{Comparison, Line, Tolerance};
use crate::trajectory;

/// Trajectories, and the iteration itself on a known singular value decomposition.
pub(crate) fn muon(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (expected, hyper) = (root.get("expected")?, root.get("hyper")?);
    let case = |name: &str, expected: &Node<'_>| -> Result<Comparison> {
        let config = muon_config(&hyper.get(name)?)?;
        trajectory::compare(&root, expected, &mut Muon::new(config)?)
    };
    let mut lines = Vec::new();
    for (name, expected) in expected.members()? {
        lines.push(match name {
            "known_svd" => line(file, name, &root, |c| known_svd(c, &expected)),
            "scalar_map" => line(file, name, &root, |c| scalar_map(c, &expected)),
            _ => Line::new(file, name, case(name, &expected)),
        });
    }
    Ok(lines)
}

fn muon_config(hyper: &Node<'_>) -> Result<MuonConfig> {
    hyper.only(&["lr", "mom", "nesterov", "scale", "wd", "classic"])?;
    Ok(MuonConfig {
        rate: hyper.get("lr")?.number()?,
        momentum: hyper.get("mom")?.number()?,
        nesterov: hyper.flag_or("nesterov", true)?,
        summed: hyper.flag_or("classic", false)?,
        weight_decay: hyper.number_or("wd", 0.0)?,
        scale: match hyper.get("scale")?.text()? {
            "keller" => MuonScale::Original,
            "moonlight" => MuonScale::LikeAdam,
            _ => return hyper.complain("a scale that is not known"),
        },
        ..MuonConfig::default()
    })
}

/// G = U S Vᵀ becomes U p⁵(S/‖S‖) Vᵀ; with convergent coefficients, U Vᵀ.
fn known_svd(comparison: &mut Comparison, expected: &Node<'_>) -> Result<()> {
    expected.only(&[
        "G",
        "U",
        "S",
        "V",
        "exact_UVt",
        "ns5_output",
        "ns5_singular_values",
        "ns5_modula_coeffs_30_steps",
    ])?;
    let array = |name: &str| expected.get(name)?.array();
    let (g, u, v) = (array("G")?, array("U")?, array("V")?);
    let sides = (g.shape[0], g.shape[1]);
    let five = newton_schulz(&g.data, sides, STEEP, 5, 1e-7);
    comparison.numbers("five steps", &five, &array("ns5_output")?.data)?;
    let product = |s: &[f64]| -> Result<Vec<f64>> {
        let s = engine::Tensor::from_slice(s, [s.len()])?;
        let scaled = u.tensor()?.mul(&s)?;
        Ok(scaled.matmul(&v.tensor()?.transpose(0, 1)?)?.to_f64_vec()?)
    };
    let mapped = product(&array("ns5_singular_values")?.data)?;
    comparison.numbers("U p(S) Vᵀ", &five, &mapped)?;
    let many = newton_schulz(&g.data, sides, CONVERGENT, 30, 1e-7);
    comparison.numbers("thirty steps", &many, &array("ns5_modula_coeffs_30_steps")?.data)?;
    // p'(1) = −0.6: each step takes two fifths off the distance to one, and 0.6³⁰ is 2·10⁻⁷.
    comparison.within(Tolerance::absolute(1e-6));
    comparison.numbers("U Vᵀ", &many, &array("exact_UVt")?.data)?;
    comparison.numbers("U Vᵀ from the file's U and V", &many, &product(&[1.0; 3])?)?;
    comparison.within(Tolerance::absolute(1e-12));
    let size = array("S")?.data.iter().map(|s| s * s).sum::<f64>().sqrt();
    let own = g.data.iter().map(|g| g * g).sum::<f64>().sqrt();
    comparison.number("‖S‖", own, size)
}

/// The scalar p⁵, by a 2 × 2 diagonal matrix of norm one.
fn scalar_map(comparison: &mut Comparison, expected: &Node<'_>) -> Result<()> {
    expected.only(&["x", "p5(x)", "min", "max"])?;
    let (x, golden) = (expected.get("x")?.array()?.data, expected.get("p5(x)")?.array()?.data);
    let mut range = [f64::INFINITY, f64::NEG_INFINITY];
    for (x, golden) in x.into_iter().zip(golden) {
        let other = (1.0 - x * x).max(0.0).sqrt();
        let mapped = newton_schulz(&[x, 0.0, 0.0, other], (2, 2), STEEP, 5, 0.0)[0];
        comparison.number(&format!("p⁵({x})"), mapped, golden)?;
        range = [range[0].min(mapped), range[1].max(mapped)];
    }
    comparison.number("the smallest", range[0], expected.get("min")?.number()?)?;
    comparison.number("the largest", range[1], expected.get("max")?.number()?)
}

/// One line per member of `expected`.
pub(crate) fn soap(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let hyper = root.get("hyper")?;
    let case = |name: &str, expected: &Node<'_>| -> Result<Comparison> {
        let eigen = name.strip_suffix("_full_eigh");
        let hyper = hyper.get(eigen.unwrap_or(name))?;
        hyper.only(&["lr", "betas", "eps", "wd", "freq", "sbeta", "bc"])?;
        let &[beta1, beta2] = hyper.get("betas")?.list()?.data.as_slice() else {
            return hyper.complain("`betas` are not two");
        };
        let mut optimizer = Soap::new(SoapConfig {
            rate: hyper.get("lr")?.number()?,
            beta1,
            beta2,
            shampoo_beta: hyper.find("sbeta").map(|beta| beta.number()).transpose()?,
            epsilon: hyper.get("eps")?.number()?,
            weight_decay: hyper.get("wd")?.number()?,
            basis_every: hyper.get("freq")?.count()? as u64,
            basis: if eigen.is_some() { Basis::Eigenvectors } else { Basis::PowerIteration },
            bias_correction: hyper.flag_or("bc", true)?,
            ..SoapConfig::default()
        })?;
        trajectory::compare(&root, expected, &mut optimizer)
    };
    let cases = root.get("expected")?.members()?;
    Ok(cases.iter().map(|(name, e)| Line::new(file, name, case(name, e))).collect())
}

/// One line per member of `expected`: parameters and averages.
pub(crate) fn splus(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let hyper = root.get("hyper")?;
    let case = |name: &str, expected: &Node<'_>| -> Result<Comparison> {
        let hyper = hyper.get(name)?;
        hyper.only(&["lr", "b2", "every"])?;
        let paper = SPlusConfig::default();
        let every = hyper.find("every").map(|every| every.count()).transpose()?;
        let mut optimizer = SPlus::new(SPlusConfig {
            rate: hyper.get("lr")?.number()?,
            beta2: hyper.number_or("b2", paper.beta2)?,
            basis_every: every.map_or(paper.basis_every, |every| every as u64),
            ..paper
        })?;
        trajectory::compare(&root, expected, &mut optimizer)
    };
    let cases = root.get("expected")?.members()?;
    Ok(cases.iter().map(|(name, e)| Line::new(file, name, case(name, e))).collect())
}
