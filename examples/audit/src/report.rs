//! `audit.json`: everything that was measured, for people who draw their own figures.

use std::fs;
use std::path::{Path, PathBuf};

use alcyon::optim::audit::{Audit, AuditConfig, Damped, FactorFigures, LayerAudit, Line, Noise};
use alcyon::prelude::*;
use serde_json::{Value, json};

/// Writes `audit.json` into a folder that exists.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub(crate) fn write(
    report: &Audit,
    config: AuditConfig,
    examples: usize,
    accuracy: f64,
    folder: &Path,
) -> Result<PathBuf> {
    let path = folder.join("audit.json");
    let value = json!({
        "fisher": format!("{:?}", config.fisher),
        "damping": config.damping,
        "seed": config.seed,
        "examples": examples,
        "test_accuracy": accuracy,
        "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
        "left_out": report.left_out,
    });
    fs::write(&path, value.to_string()).map_err(|e| Error::io(&path, e))?;
    Ok(path)
}

fn layer(layer: &LayerAudit) -> Value {
    let factors = layer.factors.iter().map(|(name, figures)| factor(name, figures));
    json!({
        "path": layer.path,
        "kind": layer.kind,
        "size": layer.size,
        "mean_curvature": layer.mean_curvature,
        "rank": layer.rank,
        "damped": damped(&layer.damped),
        "eigenvalues": layer.eigenvalues,
        "approximations": layer.lines.iter().map(line).collect::<Vec<_>>(),
        "factors": factors.collect::<Vec<_>>(),
    })
}

fn line(line: &Line) -> Value {
    json!({
        "name": line.name,
        "error": line.distance.error,
        "basis": line.distance.basis,
        "shape": line.distance.shape,
        "cosine": line.cosine,
        "aligned": line.aligned,
        "damped": damped(&line.damped),
        "bytes": line.bytes,
    })
}

fn damped(damped: &Damped) -> Value {
    json!({
        "damping": damped.damping,
        "curvature": damped.curvature,
        "effective": damped.effective,
        "spread": damped.spread,
    })
}

fn factor(name: &str, f: &FactorFigures) -> Value {
    let noise = |noise: Noise| json!({ "snr": noise.snr, "shift": noise.shift });
    json!({
        "name": name,
        "size": f.size,
        "mean": f.mean,
        "diagonal_energy": f.diagonal_energy,
        "median_radius": f.median_radius,
        "dominant_rows": f.dominant_rows,
        "largest_correlation": f.largest_correlation,
        "gershgorin": f.gershgorin,
        "eigenvalues": f.eigenvalues,
        "principal": f.principal,
        "principal_share": f.principal_share,
        "noise": noise(f.noise),
        "relative_noise": noise(f.relative_noise),
        "spectrum": f.spectrum,
    })
}
