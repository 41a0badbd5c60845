//! How long the benches measure: minutes for all of them, not an hour.

use std::time::Duration;

use criterion::Criterion;

/// `samples` samples in about so many seconds, after a quarter of that to warm up.
pub(crate) fn quickly(samples: usize, seconds: f64) -> Criterion {
    // Without plots: they would need a font (docs/decisions, 0024).
    Criterion::default()
        .without_plots()
        .sample_size(samples)
        .warm_up_time(Duration::from_secs_f64(seconds / 4.0))
        .measurement_time(Duration::from_secs_f64(seconds))
}
