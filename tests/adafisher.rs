//! What AdaFisher must be whatever the model: invariances, bounds, bookkeeping.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "adafisher/models.rs"]
mod models;

use engine::{
    DType, Error, Gradients, LayerRecord, Likelihood, Parameter, Parameters, Product, Result, Tape,
    Tensor, Var, parameters,
};
use models::{
    Forward, Normed, Reversed, Scaled, Tokens, Vision, adafisher, assert_close, images, noise,
    numbers, step, step_on, tokens, values,
};
use nn::CrossEntropy;
use optim::curvature::{ConvGroups, EmaInit, NormFactor, NormInput};
use optim::{AdaFisherConfig, Damping, Decay, Fallback, Magnitude, Optimizer, backward};

/// The same sums in another order, through a min-max and a few steps.
const REORDERED: f64 = 1e-9;

fn presets() -> [AdaFisherConfig; 5] {
    AdaFisherConfig::PRESETS.map(|name| AdaFisherConfig::preset(name).unwrap())
}

fn weight_of<'a>(model: &'a impl Parameters, path: &str) -> &'a Parameter {
    model.parameters().into_iter().find(|(p, _)| p == path).unwrap().1
}

// ---- raw diagonals ------------------------------------------------------------------------------

/// The diagonals of one weight by their definition, from rows of all its records.
fn from_rows(records: &[LayerRecord], weight: &Parameter) -> (Vec<f64>, Vec<f64>) {
    let (mut h, mut s, mut rows) = (Vec::new(), Vec::new(), [0.0; 2]);
    let add = |sum: &mut Vec<f64>, x: &Tensor| {
        let squares = numbers(&x.mul(x).unwrap().sum(&[0]).unwrap());
        sum.resize(squares.len(), 0.0);
        sum.iter_mut().zip(squares).for_each(|(a, b)| *a += b);
    };
    for record in records.iter().filter(|r| r.weight == weight.id()) {
        let groups = record.rows().unwrap();
        let mut outputs = Vec::new();
        for group in &groups {
            assert!(matches!(group.product, Product::Outer));
            add(&mut h, &group.a);
            rows[0] += group.a.shape()[0] as f64;
            let mut own = Vec::new();
            add(&mut own, &group.g);
            outputs.extend(own);
        }
        s.resize(outputs.len(), 0.0);
        s.iter_mut().zip(outputs).for_each(|(a, b)| *a += b);
        rows[1] += groups[0].g.shape()[0] as f64;
    }
    let mean = |v: Vec<f64>, n: f64| v.into_iter().map(|x| x / n).collect();
    (mean(h, rows[0]), mean(s, rows[1]))
}

fn raw_diagonals_are_those_of_the_rows(mut model: impl Forward, x: &Tensor, y: &Tensor, at: &str) {
    let loss = CrossEntropy::new(y);
    let tape = Tape::training(0);
    let nll = loss.nll(&model.logits(&tape, x).unwrap()).unwrap();
    let mut records: Vec<LayerRecord> = Vec::new();
    tape.backward_observed(&nll, &mut records).unwrap();
    let (h, s) = from_rows(&records, weight_of(&model, at));

    let mut optimizer = adafisher(AdaFisherConfig::thesis());
    step_on(&mut model, &mut optimizer, x, &loss);
    let trace = optimizer.trace(weight_of(&model, at)).unwrap();
    assert_close(&trace.h_new, &h, 1e-12, at);
    assert_close(&trace.s_new, &s, 1e-12, at);
}

#[test]
fn raw_diagonals_are_the_mean_squares_of_the_rows_of_a_record() {
    let (x, y) = images(5, 1);
    raw_diagonals_are_those_of_the_rows(Vision::new(), &x, &y, "kernel");
    raw_diagonals_are_those_of_the_rows(Vision::new(), &x, &y, "weight");
    let (x, y) = tokens(5, 1);
    raw_diagonals_are_those_of_the_rows(Tokens::untied(), &x, &y, "weight");
    raw_diagonals_are_those_of_the_rows(Tokens::untied(), &x, &y, "readout");
}

/// One weight, used twice on inputs of different size.
struct Twice {
    weight: Parameter,
    head: Parameter,
}
parameters!(Twice { weight, head });

impl Forward for Twice {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let (x, w) = (tape.input(x.clone()), tape.bind(&self.weight));
        let deep = x.linear(&w, None)?.tanh()?.linear(&w, None)?.tanh()?;
        deep.linear(&tape.bind(&self.head), None)
    }
}

#[test]
fn a_weight_used_twice_has_the_rows_of_both_uses() {
    let weight = Parameter::new(noise([4, 4], 1));
    let model = Twice { weight, head: Parameter::new(noise([3, 4], 2)) };
    let y = Tensor::from_slice(&[0_i64, 2, 1, 1, 0], [5]).unwrap();
    raw_diagonals_are_those_of_the_rows(model, &noise([5, 4], 3), &y, "weight");
}

#[test]
fn groups_with_factors_of_their_own_are_independent_convolutions() {
    let mut model = Vision::new();
    let mut optimizer = adafisher(AdaFisherConfig {
        conv_groups: ConvGroups::PerGroup,
        ..AdaFisherConfig::thesis()
    });
    let (x, y) = images(5, 1);
    step(&mut model, &mut optimizer, (x.clone(), y.clone()));
    let own = optimizer.trace(model.kernel()).unwrap().clone();
    let mut shared = adafisher(AdaFisherConfig::thesis());
    step(&mut Vision::new(), &mut shared, (x, y));
    assert_eq!((own.h_new.len(), own.s_new.len()), (2 * 10, 4));
    assert_eq!((own.h_new[9], own.h_new[19]), (1.0, 1.0));
    // F uses each group's H for that group's outputs.
    let f = numbers(&optimizer.fisher(model.kernel()).unwrap().unwrap());
    for (o, row) in f.chunks(9).enumerate() {
        for (d, f) in row.iter().enumerate() {
            let expected = own.s_used[o] * own.h_used[o / 2 * 10 + d] + 1e-3;
            assert!((f - expected).abs() < 1e-15);
        }
    }
}

// ---- invariances --------------------------------------------------------------------------------

/// Five steps from the same start.
fn trained<M: Forward>(mut model: M, config: AdaFisherConfig, batches: Batches) -> Vec<f64> {
    let mut optimizer = adafisher(config);
    (0..5).for_each(|seed| step(&mut model, &mut optimizer, batches(seed)));
    values(&model)
}

type Batches = fn(u64) -> (Tensor, Tensor);

#[test]
fn f_does_not_depend_on_the_units_of_the_loss() {
    let (mut model, mut other) = (Vision::new(), Vision::new());
    let mut optimizers = [(); 2].map(|()| adafisher(AdaFisherConfig::thesis()));
    let (x, y) = images(5, 1);
    step_on(&mut model, &mut optimizers[0], &x, &CrossEntropy::new(&y));
    step_on(&mut other, &mut optimizers[1], &x, &Scaled(CrossEntropy::new(&y), 65536.0));
    for ((path, a), (_, b)) in model.parameters().into_iter().zip(other.parameters()) {
        let f = [(&optimizers[0], a), (&optimizers[1], b)]
            .map(|(o, p)| numbers(&o.fisher(p).unwrap().unwrap()));
        assert_close(&f[1], &f[0], REORDERED, &path);
    }
}

#[test]
fn a_batch_that_is_repeated_inside_itself_changes_nothing() {
    for config in
        [AdaFisherConfig::thesis(), AdaFisherConfig { lookup: true, ..AdaFisherConfig::thesis() }]
    {
        let twice = |(x, y): (Tensor, Tensor)| {
            let of = |t: &Tensor| Tensor::concat(&[t, t], 0).unwrap();
            (of(&x), of(&y))
        };
        let (mut once, mut doubled) = (Tokens::untied(), Tokens::untied());
        let (mut a, mut b) = (adafisher(config), adafisher(config));
        for seed in 0..4 {
            step(&mut once, &mut a, tokens(3, seed));
            step(&mut doubled, &mut b, twice(tokens(3, seed)));
        }
        assert_close(&values(&doubled), &values(&once), REORDERED, "parameters");
    }
}

#[test]
fn where_the_average_starts_does_not_matter_to_the_thesis() {
    let ones = AdaFisherConfig { ema_init: EmaInit::One, ..AdaFisherConfig::thesis() };
    let [zero, one] = [AdaFisherConfig::thesis(), ones]
        .map(|config| trained(Vision::new(), config, |seed| images(5, seed)));
    assert_close(&one, &zero, REORDERED, "parameters");
}

#[test]
fn the_order_of_parameters_does_not_matter() {
    for config in presets() {
        let straight = trained(Vision::new(), config, |seed| images(5, seed));
        let reversed = trained(Reversed(Vision::new()), config, |seed| images(5, seed));
        assert_eq!(straight, reversed);
        let straight = trained(Tokens::tied(), config, |seed| tokens(3, seed));
        let reversed = trained(Reversed(Tokens::tied()), config, |seed| tokens(3, seed));
        assert_eq!(straight, reversed);
    }
}

#[test]
fn two_micro_batches_are_one_batch() {
    for config in presets() {
        let config = AdaFisherConfig { lookup: true, every: 1, ..config };
        let (mut whole, mut halves) = (Tokens::untied(), Tokens::untied());
        let (mut a, mut b) = (adafisher(config), adafisher(config));
        for seed in 0..4 {
            let (x, y) = tokens(6, seed);
            step(&mut whole, &mut a, (x.clone(), y.clone()));
            let mut grads = Gradients::default();
            // Uneven parts: each mean is weighed by its share of the terms.
            for (start, n) in [(0, 4), (4, 2)] {
                let (x, y) = (x.narrow(0, start, n).unwrap(), y.narrow(0, start, n).unwrap());
                let tape = Tape::training(0);
                let logits = halves.logits(&tape, &x).unwrap();
                let mut pass = backward(&tape, &logits, &CrossEntropy::new(&y), &mut b).unwrap();
                pass.gradients.scale(n as f64 / 6.0).unwrap();
                grads.accumulate(&pass.gradients).unwrap();
            }
            b.step(&mut halves, &grads).unwrap();
        }
        assert_close(&values(&halves), &values(&whole), REORDERED, "parameters");
    }
}

#[test]
fn single_and_double_precision_agree() {
    let run = |dtype: DType, config: AdaFisherConfig| {
        let mut model = Vision::new();
        for (_, p) in model.parameters_mut() {
            *p.value_mut() = p.value().to_dtype(dtype).unwrap();
        }
        let mut optimizer = adafisher(config);
        for seed in 0..3 {
            let (x, y) = images(5, seed);
            step(&mut model, &mut optimizer, (x.to_dtype(dtype).unwrap(), y));
        }
        values(&model)
    };
    for config in [AdaFisherConfig::thesis(), AdaFisherConfig::root()] {
        assert_close(&run(DType::F32, config), &run(DType::F64, config), 2e-3, "parameters");
    }
}

// ---- bounds, bookkeeping ------------------------------------------------------------------------

#[test]
fn the_thesis_keeps_f_between_lambda_and_one_plus_lambda() {
    let mut model = Vision::new();
    let mut optimizer = adafisher(AdaFisherConfig::thesis());
    for seed in 0..4 {
        step(&mut model, &mut optimizer, images(5, seed));
        for (path, p) in model.parameters() {
            let f = numbers(&optimizer.fisher(p).unwrap().unwrap());
            assert!(f.iter().all(|f| (1e-3..=1.001).contains(f)), "{path}: {f:?}");
        }
    }
}

/// Every parameter with a gradient. (A bias before a batch norm has none but rounding.)
fn every_parameter_moves(
    mut model: impl Forward,
    config: AdaFisherConfig,
    (x, y): &(Tensor, Tensor),
) {
    let mut optimizer = adafisher(config);
    let tape = Tape::training(0);
    let logits = model.logits(&tape, x).unwrap();
    let pass = backward(&tape, &logits, &CrossEntropy::new(y), &mut optimizer).unwrap();
    let before: Vec<_> = model.parameters().iter().map(|(_, p)| numbers(p.value())).collect();
    optimizer.step(&mut model, &pass.gradients).unwrap();
    for ((path, p), before) in model.parameters().into_iter().zip(before) {
        let grad = numbers(pass.gradients.of(p).unwrap());
        let moves = numbers(p.value()) != before;
        assert!(moves || grad.iter().all(|g| g.abs() < 1e-12), "{path} did not move");
        assert!(numbers(p.value()).iter().all(|x| x.is_finite()), "{path}");
    }
}

#[test]
fn every_trainable_parameter_moves_under_every_preset() {
    for config in presets() {
        every_parameter_moves(Vision::new(), config, &images(5, 1));
        every_parameter_moves(Tokens::tied(), config, &tokens(3, 1));
        every_parameter_moves(Normed::new(), config, &images(5, 1));
        let fallback = Fallback::Adam { ratio: 1.0, beta2: 0.999, epsilon: 1e-8 };
        let config = AdaFisherConfig { fallback, lookup: true, ..config };
        every_parameter_moves(Tokens::untied(), config, &tokens(3, 1));
        let damping = Damping::LayerRelative(0.1);
        let config = AdaFisherConfig { damping, norm_factor: NormFactor::Identity, ..config };
        every_parameter_moves(Vision::new(), config, &images(5, 1));
    }
}

#[test]
fn frozen_parameters_stay_and_need_no_gradient() {
    let mut model = Tokens::untied();
    model.weight.set_trainable(false);
    let before = numbers(model.weight.value());
    let mut optimizer = adafisher(AdaFisherConfig::thesis());
    step(&mut model, &mut optimizer, tokens(3, 1));
    assert_eq!(numbers(model.weight.value()), before);
}

#[test]
fn a_missing_gradient_stops_the_step_before_anything_moves() {
    let mut model = Tokens::untied();
    let mut optimizer = adafisher(AdaFisherConfig::thesis());
    let before = values(&model);
    let error = optimizer.step(&mut model, &Gradients::default()).unwrap_err();
    assert!(matches!(error, Error::MissingGradient { param } if param == "table"));
    assert_eq!(values(&model), before);
}

#[test]
fn coverage_says_what_each_parameter_gets_and_which_uses_are_left_out() {
    let mut model = Tokens::tied();
    let mut optimizer = adafisher(AdaFisherConfig::thesis());
    step(&mut model, &mut optimizer, tokens(3, 1));
    let coverage = optimizer.coverage(&model);
    let rule = |path: &str| &coverage.lines.iter().find(|line| line.param == path).unwrap().rule;
    assert_eq!(rule("weight"), "diagonal Kronecker factors");
    assert_eq!(rule("scale"), "diagonal factors per channel");
    assert_eq!(rule("positions"), "identity (fallback): used by `add`");
    let tied = "diagonal Kronecker factors; also used outside layers by `embedding`: \
                that use is not in its factors";
    assert_eq!(rule("table"), tied);
    // The factors of the table are those of its use as readout: [7, 5] with S of length 7.
    let trace = optimizer.trace(&model.table).unwrap();
    assert_eq!((trace.h_new.len(), trace.s_new.len()), (5, 7));
    assert!(coverage.state_bytes() >= 8 * values(&model).len());
}

#[test]
fn a_table_may_have_the_frequencies_of_its_rows_for_a_factor() {
    let mut model = Tokens::untied();
    let mut optimizer = adafisher(AdaFisherConfig { lookup: true, ..AdaFisherConfig::thesis() });
    let x = Tensor::from_slice(&[0_i64, 0, 0, 6], [1, 4]).unwrap();
    step(&mut model, &mut optimizer, (x.clone(), x));
    let trace = optimizer.trace(&model.table).unwrap();
    assert_eq!(trace.h_new, [0.75, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25]);
    assert_eq!(
        optimizer.fisher(&model.table).unwrap().unwrap().shape(),
        model.table.value().shape()
    );
}

#[test]
fn factors_are_refreshed_at_the_first_step_and_every_so_many_after_it() {
    let mut model = Vision::new();
    let mut optimizer = adafisher(AdaFisherConfig { every: 2, ..AdaFisherConfig::official() });
    let mut states = Vec::new();
    for seed in 0..4 {
        step(&mut model, &mut optimizer, images(5, seed));
        states.push(optimizer.trace(&model.weight).unwrap().h_state.clone());
    }
    assert_eq!(states[0], states[1]);
    assert_ne!(states[1], states[2]);
    assert_eq!(states[2], states[3]);
}

// ---- degenerate cases ---------------------------------------------------------------------------

/// Two dense layers.
struct Narrow {
    first: Parameter,
    second: Parameter,
    bias: Option<Parameter>,
}
parameters!(Narrow { first, second, bias });

impl Narrow {
    fn new(sizes: [usize; 3], bias: bool) -> Self {
        let [inputs, hidden, outputs] = sizes;
        Self {
            first: Parameter::new(noise([hidden, inputs], 1)),
            second: Parameter::new(noise([outputs, hidden], 2)),
            bias: bias.then(|| Parameter::new(noise([outputs], 3))),
        }
    }
}

impl Forward for Narrow {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let hidden = tape.input(x.clone()).linear(&tape.bind(&self.first), None)?.relu()?;
        let bias = self.bias.as_ref().map(|bias| tape.bind(bias));
        hidden.linear(&tape.bind(&self.second), bias.as_ref())
    }
}

fn labels(n: usize, classes: i64) -> Tensor {
    Tensor::from_vec((0..n as i64).map(|i| i % classes).collect::<Vec<_>>(), [n]).unwrap()
}

#[test]
fn layers_with_one_input_or_one_output_and_dead_layers_give_finite_steps() {
    for config in presets() {
        for damping in [Damping::Constant(1e-3), Damping::LayerRelative(0.1)] {
            let config = AdaFisherConfig { damping, every: 1, ..config };
            // Inputs that are all 0 kill the last one: no activation, no gradient of a weight.
            for (sizes, size) in [([1, 1, 3], 1.0), ([1, 4, 1], 1.0), ([3, 5, 2], 0.0)] {
                let mut model = Narrow::new(sizes, true);
                let mut optimizer = adafisher(config);
                for seed in 0..3 {
                    let x = noise([6, sizes[0]], seed).scale(size).unwrap();
                    step(&mut model, &mut optimizer, (x, labels(6, sizes[2] as i64)));
                    assert!(values(&model).iter().all(|v| v.is_finite()), "{sizes:?} {config:?}");
                }
            }
        }
    }
}

#[test]
fn both_logits_of_a_two_class_head_get_the_same_curvature() {
    for dtype in [DType::F32, DType::F64] {
        let mut model = Narrow::new([3, 6, 2], true);
        for (_, p) in model.parameters_mut() {
            *p.value_mut() = p.value().to_dtype(dtype).unwrap();
        }
        let mut optimizer = adafisher(AdaFisherConfig::thesis());
        for seed in 0..3 {
            let x = noise([8, 3], seed).to_dtype(dtype).unwrap();
            step(&mut model, &mut optimizer, (x, labels(8, 2)));
            assert_eq!(optimizer.trace(&model.second).unwrap().s_used, [1.0, 1.0]);
        }
    }
}

#[test]
fn batch_norm_read_after_normalising_is_the_identity_in_single_precision() {
    let mut model = Vision::new();
    for (_, p) in model.parameters_mut() {
        *p.value_mut() = p.value().to_dtype(DType::F32).unwrap();
    }
    let config = AdaFisherConfig { norm_input: NormInput::Normalized, ..AdaFisherConfig::thesis() };
    let mut optimizer = adafisher(config);
    let (x, y) = images(5, 1);
    step(&mut model, &mut optimizer, (x.to_dtype(DType::F32).unwrap(), y));
    assert_eq!(optimizer.trace(weight_of(&model, "scale")).unwrap().h_used, [1.0; 4]);
}

#[test]
fn a_batch_whose_squares_overflow_leaves_all_factors_as_they_were() {
    let mut model = Narrow::new([3, 6, 2], true);
    let mut optimizer = adafisher(AdaFisherConfig::thesis());
    step(&mut model, &mut optimizer, (noise([8, 3], 1), labels(8, 2)));
    let before = optimizer.trace(&model.first).unwrap().clone();
    let bad = noise([8, 3], 2).scale(1e200).unwrap(); // the loss is still finite
    for clipped in [false, true] {
        let tape = Tape::training(0);
        let logits = model.logits(&tape, &bad).unwrap();
        let loss = CrossEntropy::new(&labels(8, 2));
        let mut pass = backward(&tape, &logits, &loss, &mut optimizer).unwrap();
        if clipped {
            pass.gradients.clip_norm(1.0).unwrap();
        }
        // A gradient that cannot be squared is refused, and the batch forgotten.
        assert_eq!(optimizer.step(&mut model, &pass.gradients).is_ok(), clipped);
        assert_eq!(optimizer.trace(&model.first).unwrap(), &before);
        assert_eq!(optimizer.skipped_refreshes(), u64::from(clipped));
    }
}

#[test]
fn a_layer_relative_damping_follows_the_mean_curvature_of_the_layer() {
    let mut model = Narrow::new([3, 6, 3], true);
    let damping = Damping::LayerRelative(0.5);
    let mut optimizer = adafisher(AdaFisherConfig { damping, ..AdaFisherConfig::thesis() });
    step(&mut model, &mut optimizer, (noise([8, 3], 1), labels(8, 3)));
    let f = [&model.second, model.bias.as_ref().unwrap()]
        .map(|p| numbers(&optimizer.fisher(p).unwrap().unwrap()));
    let all: Vec<f64> = f.concat();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    // mean F = mean H·S + λ = 3 λ for τ = 1/2, and the smallest F is λ itself.
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    assert!((mean - 3.0 * least).abs() < 1e-12, "{mean} {least}");
}

// ---- saved states -------------------------------------------------------------------------------

/// The preset `root` by its formula, for a dense layer of which everything is written out: the mean of
/// F is the averaged mean of g², its shape is that of H·S.
#[test]
fn under_the_root_f_has_the_mean_of_the_squared_gradient_and_the_shape_of_the_factors() {
    let mut model = Vision::new();
    let config = AdaFisherConfig { rate: 0.01, ..AdaFisherConfig::root() };
    let mut optimizer = adafisher(config);
    let mut average = Vec::new();
    for seed in 0..3 {
        let (x, y) = images(5, seed);
        let tape = Tape::training(0);
        let logits = model.logits(&tape, &x).unwrap();
        let pass = backward(&tape, &logits, &CrossEntropy::new(&y), &mut optimizer).unwrap();
        let before: Vec<_> = model.parameters().iter().map(|(_, p)| numbers(p.value())).collect();
        let moments: Vec<_> = model
            .parameters()
            .iter()
            .map(|(_, p)| optimizer.moment(p).map_or_else(Vec::new, numbers))
            .collect();
        optimizer.step(&mut model, &pass.gradients).unwrap();
        for (i, (path, p)) in model.parameters().into_iter().enumerate() {
            let g = numbers(pass.gradients.of(p).unwrap());
            let new = g.iter().map(|g| g * g).sum::<f64>() / g.len() as f64;
            if seed == 0 {
                average.push(new);
            }
            average[i] = 0.8 * average[i] + 0.2 * new;
            let (f, lambda) = optimizer.curvature_and_damping(p).unwrap();
            let mean = f.iter().sum::<f64>() / f.len() as f64;
            assert!((mean / average[i] - 1.0).abs() < 1e-12, "{path}: {mean} {}", average[i]);
            assert!((lambda - 0.01 * average[i] - 1e-16).abs() <= 1e-12 * lambda, "{path}");
            let correction = 1.0 - 0.9_f64.powi(seed as i32 + 1);
            let expected = before[i].iter().zip(&g).zip(&f).enumerate().map(|(at, ((x, g), f))| {
                let m = 0.9 * moments[i].get(at).copied().unwrap_or(0.0) + 0.1 * g;
                x - 0.01 * (m / correction) / (f + lambda).sqrt()
            });
            let expected: Vec<f64> = expected.collect();
            assert_close(&numbers(p.value()), &expected, 1e-11, &path);
        }
        let weight = weight_of(&model, "weight");
        let (f, _) = optimizer.curvature_and_damping(weight).unwrap();
        let trace = optimizer.trace(weight).unwrap();
        let (h, s) = (&trace.h_used, &trace.s_used);
        let width = f.len() / s.len();
        let ratio = f[0] / (h[0] * s[0]);
        let outer = s.iter().flat_map(|s| h[..width].iter().map(move |h| ratio * s * h));
        assert_close(&f, &outer.collect::<Vec<_>>(), 1e-12, "weight");
    }
}

#[test]
fn under_the_root_a_layer_without_gradient_stays_where_it_is() {
    let mut model = Vision::new();
    let mut optimizer = adafisher(AdaFisherConfig::root());
    let (x, y) = images(5, 1);
    let before = values(&model);
    let tape = Tape::training(0);
    let logits = model.logits(&tape, &x).unwrap();
    let loss = Scaled(CrossEntropy::new(&y), 0.0);
    let pass = backward(&tape, &logits, &loss, &mut optimizer).unwrap();
    optimizer.step(&mut model, &pass.gradients).unwrap();
    assert_eq!(values(&model), before);
}

fn a_resumed_run_equals_an_uninterrupted_one<M: Forward>(
    new: fn() -> M,
    config: AdaFisherConfig,
    batches: Batches,
) {
    let (mut model, mut optimizer) = (new(), adafisher(config));
    (0..3).for_each(|seed| step(&mut model, &mut optimizer, batches(seed)));
    let state = optimizer.state(&model).unwrap();
    let mut copy = new();
    for ((_, to), (_, from)) in copy.parameters_mut().into_iter().zip(model.parameters()) {
        *to.value_mut() = from.value().clone();
    }
    let mut resumed = adafisher(config);
    resumed.load_state(&copy, &state).unwrap();
    assert_eq!(resumed.state(&copy).unwrap().numbers, state.numbers);
    for seed in 3..6 {
        step(&mut model, &mut optimizer, batches(seed));
        step(&mut copy, &mut resumed, batches(seed));
        assert_eq!(values(&copy), values(&model));
    }
}

#[test]
fn resuming_is_exact_to_the_last_bit() {
    for config in presets() {
        for every in [1, 2] {
            let config = AdaFisherConfig { every, ..config };
            a_resumed_run_equals_an_uninterrupted_one(Vision::new, config, |s| images(5, s));
            a_resumed_run_equals_an_uninterrupted_one(Tokens::tied, config, |s| tokens(3, s));
            let fallback = Fallback::Adam { ratio: 1.0, beta2: 0.999, epsilon: 1e-8 };
            let config = AdaFisherConfig {
                fallback,
                decay: Decay::Decoupled(0.01),
                conv_groups: ConvGroups::PerGroup,
                ..config
            };
            a_resumed_run_equals_an_uninterrupted_one(Vision::new, config, |s| images(5, s));
            a_resumed_run_equals_an_uninterrupted_one(Tokens::untied, config, |s| tokens(3, s));
        }
    }
}

#[test]
fn a_state_from_before_the_first_step_can_be_saved_and_loaded() {
    let model = Vision::new();
    let state = adafisher(AdaFisherConfig::thesis()).state(&model).unwrap();
    adafisher(AdaFisherConfig::thesis()).load_state(&model, &state).unwrap();
}

#[test]
fn a_state_of_another_optimizer_model_or_rule_is_refused_and_changes_nothing() {
    let (mut model, mut optimizer) = (Vision::new(), adafisher(AdaFisherConfig::thesis()));
    step(&mut model, &mut optimizer, images(5, 1));
    let good = optimizer.state(&model).unwrap();
    let before = format!("{good:?}");
    let mut wrong = Vec::new();
    let mut other = good.clone();
    other.optimizer = "adam".to_owned();
    wrong.push(other);
    for key in ["rate", "kernel/steps", "kernel/form", "kernel/biases", "rule"] {
        let mut other = good.clone();
        other.numbers.insert(key.to_owned(), "hadamard2".to_owned());
        wrong.push(other);
        let mut other = good.clone();
        other.numbers.remove(key);
        wrong.push(other);
    }
    for key in ["kernel/m", "kernel/h", "scale/s", "nobody/m"] {
        let mut other = good.clone();
        other.tensors.remove(key);
        if key != "nobody/m" {
            wrong.push(other.clone());
        }
        other.tensors.insert(key.to_owned(), Tensor::zeros([3], DType::F64));
        wrong.push(other);
    }
    for state in wrong {
        assert!(optimizer.load_state(&model, &state).is_err(), "{state:?}");
        assert_eq!(format!("{:?}", optimizer.state(&model).unwrap()), before);
    }
}

#[test]
fn a_state_whose_f_had_another_magnitude_is_refused() {
    let (mut model, mut root) = (Vision::new(), adafisher(AdaFisherConfig::root()));
    step(&mut model, &mut root, images(5, 1));
    let state = root.state(&model).unwrap();
    let config = AdaFisherConfig { magnitude: Magnitude::Factors, ..AdaFisherConfig::root() };
    assert!(adafisher(config).load_state(&model, &state).is_err());
    adafisher(AdaFisherConfig::root()).load_state(&model, &state).unwrap();
}
