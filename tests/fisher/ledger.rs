//! The ledger's sizes are what the optimizers turn out to keep, and a plan stays within its budget.

use engine::{
    DType, Error, Geometry, LayerRecord, Likelihood, Parameter, Result, Tape, Tensor, Var, Window,
    parameters,
};
use optim::curvature::{Kind, Ledger};
use optim::{AdaFisher, AdaFisherConfig, Kfac, KfacConfig, Optimizer};

use super::models::{Softmax, noise, step};

/// A table, a norm with and without a shift, a grouped convolution with a bias, a dense layer used
/// twice, and a parameter in no layer.
#[derive(Debug)]
pub struct Model {
    table: Parameter,
    scale: Parameter,
    kernel: Parameter,
    kernel_bias: Parameter,
    norm: Parameter,
    norm_shift: Parameter,
    dense: Parameter,
    dense_bias: Parameter,
    loose: Parameter,
}
parameters!(Model {
    table,
    scale,
    kernel,
    kernel_bias,
    norm,
    norm_shift,
    dense,
    dense_bias,
    loose
});

impl Model {
    pub fn new() -> Self {
        Self {
            table: Parameter::new(noise([5, 4], 1)),
            scale: Parameter::new(noise([4], 2)),
            kernel: Parameter::new(noise([4, 2, 3, 3], 3)),
            kernel_bias: Parameter::new(noise([4], 4)),
            norm: Parameter::new(noise([4], 5)),
            norm_shift: Parameter::new(noise([4], 6)),
            dense: Parameter::new(noise([4, 4], 7)),
            dense_bias: Parameter::new(noise([4], 8)),
            loose: Parameter::new(noise([4], 9)),
        }
    }

    pub fn dense_value(&self) -> &Tensor {
        self.dense.value()
    }

    fn forward(&self, words: &Var) -> Result<Var> {
        let tape = words.tape()?;
        let bind = |p| tape.bind(p);
        let tokens =
            words.embedding(&bind(&self.table))?.rms_norm(Some(&bind(&self.scale)), 0.1)?;
        let n = tokens.shape()[0];
        let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
        let geometry = Geometry { window, groups: 2 };
        let bias = bind(&self.kernel_bias);
        let images = tokens.reshape([n, 4, 4, 1])?;
        let images =
            images.conv2d(&bind(&self.kernel), Some(&bias), geometry)?.reshape([n, 4, 4])?;
        let normed =
            images.layer_norm(Some(&bind(&self.norm)), Some(&bind(&self.norm_shift)), 0.1)?;
        let (dense, bias) = (bind(&self.dense), bind(&self.dense_bias));
        let once = normed.sum(&[1])?.linear(&dense, Some(&bias))?.tanh()?;
        once.linear(&dense, Some(&bias))?.add(&bind(&self.loose))
    }
}

const ROWS: usize = 3;

fn words() -> Tensor {
    Tensor::from_fn([ROWS, 4], DType::I64, |i| (i * i % 5) as f64)
}

/// So many steps on one batch.
pub fn trained(optimizer: &mut dyn Optimizer, model: &mut Model, steps: usize) -> Result<()> {
    for _ in 0..steps {
        let tape = Tape::new();
        let y = model.forward(&tape.input(words()))?;
        step(optimizer, model, &Softmax::labels(ROWS, 4), &tape, &y)?;
    }
    Ok(())
}

fn ledger(model: &Model) -> Ledger {
    let tape = Tape::new();
    let y = model.forward(&tape.input(words())).unwrap();
    let mut records: Vec<LayerRecord> = Vec::new();
    let loss = Softmax::labels(ROWS, 4).nll(&y).unwrap();
    tape.backward_observed(&loss, &mut records).unwrap();
    Ledger::of(model, &records)
}

#[test]
fn it_says_before_the_first_step_what_optimizers_keep_after_it() {
    let adafisher = AdaFisherConfig { lookup: true, ..AdaFisherConfig::thesis() };
    let kfac = KfacConfig::default();
    let optimizers: [(Kind, Box<dyn Optimizer>); 2] = [
        (Kind::Diagonal, Box::new(AdaFisher::new(adafisher).unwrap())),
        (Kind::Block, Box::new(Kfac::new(kfac).unwrap())),
    ];
    for (kind, mut optimizer) in optimizers {
        let mut model = Model::new();
        let ledger = ledger(&model);
        trained(&mut *optimizer, &mut model, 1).unwrap();
        let kept = optimizer.coverage(&model);
        let expected = ledger.bytes(&vec![kind; ledger.entries.len()]);
        assert_eq!(kept.state_bytes(), expected, "{kind}:\n{kept}\n{ledger}");
    }
}

#[test]
fn every_trained_number_is_in_one_line_and_rows_are_those_of_all_uses() {
    let model = Model::new();
    let ledger = ledger(&model);
    let paths: Vec<&str> = ledger.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["table", "scale", "kernel", "norm", "dense", "loose"]);
    let numbers: Vec<usize> = ledger.entries.iter().map(|entry| entry.numbers).collect();
    assert_eq!(numbers, [20, 4, 72 + 4, 8, 20, 4]);
    assert!(!ledger.entries[5].has_layer() && ledger.entries[5].bytes(Kind::Full) == 8 * 4);
    // Two uses of three examples: four inputs and four outputs each, in f64.
    assert_eq!(ledger.entries[4].rows, 2 * 3 * (4 + 4) * 8);
    assert_eq!(ledger.entries[3].curvature(Kind::Full), (8 * 64, 8 * 64));
    assert_eq!(ledger.to_string().lines().count(), 7);
}

#[test]
fn a_plan_is_within_its_budget_and_leaves_nothing_that_would_fit() {
    let ledger = ledger(&Model::new());
    let all = |kind| ledger.bytes(&vec![kind; ledger.entries.len()]);
    let (least, most) = (all(Kind::Diagonal), all(Kind::Full));
    // A norm's block, two vectors without a history, costs less than its diagonal.
    let cheapest = ledger.plan(least).unwrap();
    assert_eq!([cheapest[1], cheapest[3]], [Kind::Block; 2]);
    assert_eq!([cheapest[2], cheapest[4], cheapest[5]], [Kind::Diagonal; 3]);
    assert!(ledger.bytes(&cheapest) <= least);
    let full = ledger.plan(most).unwrap();
    assert_eq!(full[..5], [Kind::Full; 5]);
    assert!(ledger.bytes(&full) <= most);
    assert!(matches!(ledger.plan(least - 1), Err(Error::Argument { name: "budget", .. })));
    let mut seen = Vec::new();
    for budget in (least..most).step_by(997) {
        let kinds = ledger.plan(budget).unwrap();
        assert!(ledger.bytes(&kinds) <= budget);
        for (at, kind) in kinds.iter().enumerate() {
            let next = [Kind::Diagonal, Kind::Block, Kind::Full].into_iter().find(|k| k > kind);
            let Some(next) = next.filter(|_| ledger.entries[at].has_layer()) else { continue };
            let mut more = kinds.clone();
            more[at] = next;
            assert!(ledger.bytes(&more) > budget, "{budget}: {kinds:?}, {at} could be {next}");
        }
        seen.extend(kinds);
    }
    for kind in [Kind::Diagonal, Kind::Block, Kind::Full] {
        assert!(seen.contains(&kind), "no budget chose {kind}");
    }
}
