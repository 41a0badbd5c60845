//! Every kind of layer, with a bias and without, against everybody who takes curvature from records.

use engine::{LayerRecord, Parameter, Tape};
use optim::audit::{AuditConfig, audit};
use optim::curvature::{Kind as Keep, Ledger};
use optim::{
    AdaFisher, AdaFisherConfig, Ekfac, EkfacConfig, Kfac, KfacConfig, Optimizer, backward,
};

use crate::exact::{Kind, kinds};
use crate::models::{REORDERED, Squared, assert_close, noise, numbers};

/// The words of each of a kind's parameters, after a step.
fn words(mut kind: Kind, optimizer: &mut dyn Optimizer) -> Vec<String> {
    let tape = Tape::new();
    let y = kind.outputs_of(&tape);
    let loss = Squared(noise([y.shape()[0], y.shape()[1]], 2));
    let pass = backward(&tape, &y, &loss, optimizer).unwrap();
    drop((y, tape));
    optimizer.step(&mut kind.parameters, &pass.gradients).unwrap();
    let coverage = optimizer.coverage(&kind.parameters);
    coverage.lines.into_iter().map(|line| line.rule).collect()
}

fn is_transposed(kind: &Kind) -> bool {
    kind.name.starts_with("transposed")
}

#[test]
fn k_fac_covers_every_parameter_of_every_kind() {
    for kind in kinds() {
        // Two uses of one table that are not of one kind have no product.
        let tied = kind.name == "tied readout";
        let name = kind.name;
        for rule in words(kind, &mut Kfac::new(KfacConfig::default()).unwrap()) {
            assert!(tied || !rule.starts_with("gradient"), "{name}: {rule}");
        }
    }
}

#[test]
fn rules_by_layers_cover_whatever_has_rows_and_name_what_has_none() {
    for kind in kinds() {
        let (name, transposed) = (kind.name, is_transposed(&kind));
        for rule in words(kind, &mut Ekfac::new(EkfacConfig::default()).unwrap()) {
            let norm = name.contains("norm") && rule == "gradient: used by a norm";
            let table = (name == "embedding" || name == "tied readout")
                && rule.starts_with("gradient: used by an embedding");
            let covered = rule.starts_with("Kronecker eigenvectors") || rule.contains("groups of");
            assert!(norm || table || covered || name == "tied readout", "{name}: {rule}");
            assert!(!transposed || covered, "{name}: {rule}");
        }
    }
}

#[test]
fn adafisher_says_that_its_sources_have_no_rule_for_a_transposed_convolution() {
    for kind in kinds() {
        let transposed = is_transposed(&kind);
        let name = kind.name;
        for rule in words(kind, &mut AdaFisher::new(AdaFisherConfig::thesis()).unwrap()) {
            assert_eq!(rule.contains("`conv_transpose2d`"), transposed, "{name}: {rule}");
        }
    }
}

#[test]
fn a_transposed_convolution_s_bias_is_a_record_of_its_own_whose_rows_make_its_gradient() {
    for kind in kinds().into_iter().filter(is_transposed) {
        let tape = Tape::new();
        let y = kind.outputs_of(&tape);
        let loss = y.square().unwrap().sum_all().unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        let grads = tape.backward_observed(&loss, &mut records).unwrap();
        assert_eq!(records.len(), kind.parameters.len(), "{}", kind.name);
        for parameter in &kind.parameters {
            let record = records.iter().find(|r| r.weight == parameter.id()).unwrap();
            let rows = record.rows().unwrap();
            let gradient: Vec<f64> =
                rows.iter().flat_map(|rows| numbers(&rows.gradient().unwrap())).collect();
            let expected = numbers(grads.of(parameter).unwrap());
            assert_close(&gradient, &expected, REORDERED, kind.name);
        }
    }
}

#[test]
fn the_ledger_and_the_audit_leave_no_parameter_of_a_layer_out() {
    // A tied readout's bias is audited with the first use of its weight, which has none.
    for kind in kinds().into_iter().filter(|kind| kind.name != "tied readout") {
        let tape = Tape::new();
        let y = kind.outputs_of(&tape);
        let loss = Squared(noise([y.shape()[0], y.shape()[1]], 2));
        let mut records: Vec<LayerRecord> = Vec::new();
        tape.backward_observed(&y.square().unwrap().sum_all().unwrap(), &mut records).unwrap();
        let ledger = Ledger::of(&kind.parameters, &records);
        for entry in &ledger.entries {
            assert!(entry.has_layer(), "{}: {}", kind.name, entry.path);
            let (factors, _) = entry.curvature(Keep::Block);
            assert!(factors > 0, "{}: {}", kind.name, entry.path);
        }
        let total: usize = kind.parameters.iter().map(|p| p.value().numel()).sum();
        assert_eq!(ledger.entries.iter().map(|e| e.numbers).sum::<usize>(), total, "{}", kind.name);
        let report =
            audit(&kind.parameters, &tape, &y, &loss, y.shape()[0], AuditConfig::default())
                .unwrap();
        assert!(report.left_out.is_empty(), "{}: {:?}", kind.name, report.left_out);
        let audited: usize = report.layers.iter().map(|layer| layer.size).sum();
        assert_eq!(audited, total, "{}", kind.name);
        // EKFAC is never further from the block than K-FAC (George et al. 2018, theorem 2).
        for layer in &report.layers {
            let error =
                |name: &str| layer.lines.iter().find(|l| l.name == name).map(|l| l.distance.error);
            if let Some((ekfac, kfac)) = error("EKFAC").zip(error("K-FAC, expand")) {
                assert!(ekfac <= kfac + 1e-7, "{} {}: {ekfac} and {kfac}", kind.name, layer.path);
            }
        }
    }
}

#[test]
fn an_ekfac_direction_of_a_transposed_convolution_solves_its_own_operator() {
    // With a λ that dwarfs S the direction is the gradient over λ, whatever the layout: entries stay in place.
    for kind in kinds().into_iter().filter(is_transposed) {
        let name = kind.name;
        let mut kind = kind;
        let mut config = EkfacConfig { damping: 1e9, ..EkfacConfig::default() };
        (config.step.kl_clip, config.step.rate) = (None, 1e9);
        let mut ekfac = Ekfac::new(config).unwrap();
        let before: Vec<Vec<f64>> = kind.parameters.iter().map(|p| numbers(p.value())).collect();
        let tape = Tape::new();
        let y = kind.outputs_of(&tape);
        let loss = Squared(noise([y.shape()[0], y.shape()[1]], 2));
        let pass = backward(&tape, &y, &loss, &mut ekfac).unwrap();
        drop((y, tape));
        ekfac.step(&mut kind.parameters, &pass.gradients).unwrap();
        let moved = |(p, before): (&Parameter, &Vec<f64>)| -> Vec<f64> {
            numbers(p.value()).iter().zip(before).map(|(now, old)| old - now).collect()
        };
        for (p, before) in kind.parameters.iter().zip(&before) {
            let gradient = numbers(pass.gradients.of(p).unwrap());
            assert_close(&moved((p, before)), &gradient, 1e-6, name);
        }
    }
}
