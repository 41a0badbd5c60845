//! Fisher's iris: four measurements, three species, 150 plants.
//!
//! Fisher 1936, Iris (UCI), CC BY 4.0, with rows 35 and 38 as published; see `nn/data/README.md`.

use std::path::Path;

use engine::Result;

use super::Dataset;
use super::csv::{Label, Table};

/// Iris: 120 training and 30 test rows `[N, 4]`, each feature standardised by the training rows.
/// Every fifth row of a species tests, so both sides are balanced.
///
/// # Errors
/// None: the text is part of the program, and a test reads it.
pub fn iris() -> Result<(Dataset, Dataset)> {
    let text = include_bytes!("../../data/iris.csv");
    let all = Table::parse(&text[..], Path::new("iris.csv"), &Label::Last)?.dataset;
    let (test, train): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|i| i % 5 == 4);
    let (train, test) = (all.select(&train)?, all.select(&test)?);
    let (mean, deviation) = train.moments()?;
    Ok((train.standardised(&mean, &deviation)?, test.standardised(&mean, &deviation)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_balanced_and_training_features_have_mean_zero_and_deviation_one() {
        let (train, test) = iris().unwrap();
        for (side, each) in [(&train, 40), (&test, 10)] {
            let labels = side.labels.to_vec::<i64>().unwrap();
            let count = |class| labels.iter().filter(|&&l| l == class).count();
            assert_eq!([count(0), count(1), count(2)], [each; 3]);
        }
        let (mean, deviation) = train.moments().unwrap();
        assert!(mean.to_f64_vec().unwrap().iter().all(|m| m.abs() < 1e-6));
        assert!(deviation.to_f64_vec().unwrap().iter().all(|d| (d - 1.0).abs() < 1e-6));
    }
}
