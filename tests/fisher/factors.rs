//! The factors: against exact blocks, and against themselves under changes that must not matter.

use engine::{DType, Geometry, LayerRecord, Parameter, Result, Rng, Tape, Tensor, Var, Window};
use optim::Fisher;
use optim::curvature::{AverageStart, Form, Kronecker, KroneckerFactors, Share};

use super::models::{
    Dense, Net, REORDERED, Softmax, Squared, assert_close, exact_block, factors, identity,
    identity_hessian, kronecker, noise, numbers, observe, softmax_hessian, step, tanh,
};

fn both_close(got: &Kronecker, expected: &Kronecker, what: &str) {
    assert_close(&got.a, &expected.a, REORDERED, &format!("{what}: A"));
    assert_close(&got.g, &expected.g, REORDERED, &format!("{what}: G"));
}

#[test]
fn kfac_equals_the_ggn_block_of_a_deep_linear_net_with_squared_loss() {
    let net = Net::new(&[4, 3, 5, 2], identity);
    let (x, loss) = (noise([6, 4], 1), Squared(noise([6, 2], 2)));
    let factors = factors(Fisher::Exact, &loss, &x, |x| net.forward(x));
    for layer in &net.layers {
        let exact = exact_block(layer, &x, identity_hessian, |x| net.forward(x));
        let block = factors.of(&layer.weight).unwrap();
        assert_close(&kronecker(block), &exact, REORDERED, "G ⊗ A");
    }
}

#[test]
fn with_one_example_kfac_equals_the_softmax_block_of_every_layer() {
    let net = Net::new(&[4, 3, 5, 3], tanh);
    let (x, loss) = (noise([1, 4], 1), Softmax(vec![2]));
    let factors = factors(Fisher::Exact, &loss, &x, |x| net.forward(x));
    for layer in &net.layers {
        let exact = exact_block(layer, &x, softmax_hessian, |x| net.forward(x));
        assert_close(&kronecker(factors.of(&layer.weight).unwrap()), &exact, REORDERED, "G ⊗ A");
    }
}

#[test]
fn sampled_factors_approach_the_exact_ones_like_one_over_the_root_of_the_draws() {
    let net = Net::new(&[3, 4, 3], tanh);
    let (x, loss) = (noise([5, 3], 1), Softmax::labels(5, 3));
    let exact = factors(Fisher::Exact, &loss, &x, |x| net.forward(x));
    for draws in [100, 1600] {
        let sampled = factors(Fisher::Sampled { draws }, &loss, &x, |x| net.forward(x));
        for layer in &net.layers {
            let (s, e) = (sampled.of(&layer.weight).unwrap(), exact.of(&layer.weight).unwrap());
            assert_close(&s.a, &e.a, REORDERED, "A has no labels in it");
            let distance = |x: &[f64], y: &[f64]| {
                x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
            };
            let error = distance(&s.g, &e.g) / distance(&e.g, &vec![0.0; e.g.len()]);
            // A label's d dᵀ deviates by about the size of G itself, and there are 5 of them.
            let monte_carlo = 3.0 / (draws as f64).sqrt();
            assert!(error > 0.0 && error < monte_carlo, "{draws} draws: {error}");
        }
    }
}

#[test]
fn the_diagonals_of_empirical_factors_are_mean_squares_of_the_rows() {
    let net = Net::new(&[4, 5, 3], tanh);
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let factors = factors(Fisher::Empirical, &loss, &x, |x| net.forward(x));
    let tape = Tape::new();
    let y = net.forward(&tape.input(x)).unwrap();
    let mut records: Vec<LayerRecord> = Vec::new();
    tape.backward_observed(&engine::Likelihood::nll(&loss, &y).unwrap(), &mut records).unwrap();
    for (record, layer) in records.iter().rev().zip(&net.layers) {
        let block = factors.of(&layer.weight).unwrap();
        let rows = record.rows().unwrap().remove(0);
        let squares = |t: &Tensor, scale: f64| {
            numbers(&t.mul(t).unwrap().sum(&[0]).unwrap().scale(scale).unwrap())
        };
        let diagonal = |m: &[f64], n: usize| m.iter().step_by(n + 1).copied().collect::<Vec<_>>();
        let (h, s) = (diagonal(&block.a, block.inputs()), diagonal(&block.g, block.outputs()));
        assert_close(&h, &squares(&rows.a, 1.0 / 6.0), REORDERED, "inputs");
        assert_close(&s, &squares(&rows.g, 6.0), REORDERED, "output gradients, N put back");
    }
}

#[test]
fn the_diagonals_of_empirical_factors_are_the_raw_factors_of_adafisher() {
    let mut net = Net::new(&[4, 5, 3], tanh);
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let factors = factors(Fisher::Empirical, &loss, &x, |x| net.forward(x));
    let mut adafisher = optim::AdaFisher::new(optim::AdaFisherConfig::thesis()).unwrap();
    let tape = Tape::new();
    let y = net.forward(&tape.input(x)).unwrap();
    step(&mut adafisher, &mut net, &loss, &tape, &y).unwrap();
    for layer in &net.layers {
        let block = factors.of(&layer.weight).unwrap();
        let trace = adafisher.trace(&layer.weight).unwrap();
        let diagonal = |m: &[f64], n: usize, scale: f64| -> Vec<f64> {
            m.iter().step_by(n + 1).map(|x| x * scale).collect()
        };
        let h = diagonal(&block.a, block.inputs(), 1.0);
        // AdaFisher leaves the 1/N of the mean loss in its output gradients.
        let s = diagonal(&block.g, block.outputs(), 1.0 / 36.0);
        assert_close(&trace.h_new, &h, REORDERED, "H");
        assert_close(&trace.s_new, &s, REORDERED, "S");
    }
}

#[test]
fn micro_batches_make_the_factors_of_the_whole_batch() {
    let net = Net::new(&[4, 5, 3], tanh);
    let x = noise([6, 4], 1);
    let labels = Softmax::labels(6, 3).0;
    for fisher in [Fisher::Empirical, Fisher::Exact] {
        let whole = factors(fisher, &Softmax(labels.clone()), &x, |x| net.forward(x));
        let mut parts = KroneckerFactors::new(fisher, Share::Expand);
        for range in [0..1, 1..4, 4..6] {
            let part = x.narrow(0, range.start, range.len()).unwrap();
            let loss = Softmax(labels[range].to_vec());
            observe(&mut parts, &loss, &part, |x| net.forward(x));
        }
        parts.fold().unwrap();
        for layer in &net.layers {
            both_close(parts.of(&layer.weight).unwrap(), whole.of(&layer.weight).unwrap(), "parts");
        }
    }
}

#[test]
fn showing_every_example_twice_changes_nothing() {
    let net = Net::new(&[4, 5, 3], tanh);
    let (x, labels) = (noise([6, 4], 1), Softmax::labels(6, 3).0);
    let twice = Tensor::concat(&[&x, &x], 0).unwrap();
    for fisher in [Fisher::Empirical, Fisher::Exact] {
        let once = factors(fisher, &Softmax(labels.clone()), &x, |x| net.forward(x));
        let loss = Softmax([labels.clone(), labels.clone()].concat());
        let twice = factors(fisher, &loss, &twice, |x| net.forward(x));
        for layer in &net.layers {
            both_close(twice.of(&layer.weight).unwrap(), once.of(&layer.weight).unwrap(), "twice");
        }
    }
}

#[test]
fn a_weight_used_twice_has_the_rows_of_both_uses() {
    let tied = Dense::new(3, 3, true, 5);
    let (x, loss) = (noise([4, 3], 1), Squared(noise([4, 3], 2)));
    let forward = |x: &Var| tied.forward(&tied.forward(x)?.tanh()?);
    let found = factors(Fisher::Empirical, &loss, &x, forward);
    let tape = Tape::new();
    let mut records: Vec<LayerRecord> = Vec::new();
    let y = forward(&tape.input(x)).unwrap();
    tape.backward_observed(&engine::Likelihood::nll(&loss, &y).unwrap(), &mut records).unwrap();
    assert_eq!(records.len(), 2);
    let gram = |which: fn(&engine::Rows) -> &Tensor, scale: f64| {
        let rows: Vec<_> = records.iter().map(|r| r.rows().unwrap().remove(0)).collect();
        let all = Tensor::concat(&[which(&rows[0]), which(&rows[1])], 0).unwrap();
        numbers(&all.transpose(0, 1).unwrap().matmul(&all).unwrap().scale(scale).unwrap())
    };
    let block = found.of(&tied.weight).unwrap();
    assert_close(&block.a, &gram(|r| &r.a, 1.0 / 8.0), REORDERED, "the mean over 8 rows");
    assert_close(&block.g, &gram(|r| &r.g, 4.0), REORDERED, "the mean over 4 terms of both uses");
}

fn convolution(
    weight: &Parameter,
    bias: Option<&Parameter>,
    window: Window,
    groups: usize,
) -> impl Fn(&Var) -> engine::Result<Var> {
    move |x| {
        let tape = x.tape()?;
        let bias = bias.map(|b| tape.bind(b));
        let y = x.conv2d(&tape.bind(weight), bias.as_ref(), Geometry { window, groups })?;
        let n = y.shape()[0];
        y.reshape([n, y.numel() / n])
    }
}

#[test]
fn a_convolution_with_one_position_is_a_dense_layer() {
    let dense = Dense::new(2 * 3 * 2, 4, true, 3);
    let bias = dense.bias.as_ref().unwrap();
    let kernel = Parameter::new(dense.weight.value().reshape([4, 2, 3, 2]).unwrap());
    let shift = Parameter::new(bias.value().clone());
    let (x, loss) = (noise([5, 12], 1), Softmax::labels(5, 4));
    for fisher in [Fisher::Empirical, Fisher::Exact] {
        let flat = factors(fisher, &loss, &x, |x| dense.forward(x));
        let forward = convolution(&kernel, Some(&shift), Window::new((3, 2)), 1);
        let images = x.reshape([5, 2, 3, 2]).unwrap();
        let conv = factors(fisher, &loss, &images, forward);
        both_close(conv.of(&kernel).unwrap(), flat.of(&dense.weight).unwrap(), "one position");
        let mut reduced = KroneckerFactors::new(fisher, Share::Reduce);
        let forward = convolution(&kernel, Some(&shift), Window::new((3, 2)), 1);
        observe(&mut reduced, &loss, &images, forward);
        reduced.fold().unwrap();
        both_close(reduced.of(&kernel).unwrap(), flat.of(&dense.weight).unwrap(), "reduced");
    }
}

#[test]
fn the_factors_of_a_convolution_are_those_of_its_patches() {
    let kernel = Parameter::new(noise([4, 3, 2, 3], 3));
    let shift = Parameter::new(noise([4], 4));
    let window = Window { kernel: (2, 3), stride: (2, 1), padding: (1, 0), dilation: (1, 2) };
    for (groups, with_bias) in [(1, true), (2, false), (2, true)] {
        let kernel = if groups == 1 { &kernel } else { &Parameter::new(noise([4, 3, 2, 3], 5)) };
        let (images, loss) = (noise([3, 3 * groups, 4, 7], 1), Squared(noise([3, 4 * 3 * 3], 2)));
        let forward = convolution(kernel, with_bias.then_some(&shift), window, groups);
        let found = factors(Fisher::Empirical, &loss, &images, &forward);
        let tape = Tape::new();
        let mut records: Vec<LayerRecord> = Vec::new();
        let y = forward(&tape.input(images)).unwrap();
        tape.backward_observed(&engine::Likelihood::nll(&loss, &y).unwrap(), &mut records).unwrap();
        let gram = |t: &Tensor, scale: f64| {
            numbers(&t.transpose(0, 1).unwrap().matmul(t).unwrap().scale(scale).unwrap())
        };
        let rows = records[0].rows().unwrap();
        assert_eq!(rows.len(), groups);
        let count = rows[0].a.shape()[0] as f64;
        let a: Vec<f64> = rows.iter().flat_map(|r| gram(&r.a, 1.0 / count)).collect();
        let g: Vec<f64> = rows.iter().flat_map(|r| gram(&r.g, 3.0)).collect();
        let block = found.of(kernel).unwrap();
        assert_eq!(block.groups, groups);
        assert_close(&block.a, &a, REORDERED, "A of each group");
        assert_close(&block.g, &g, REORDERED, "G of each group");
    }
}

#[test]
fn the_reduced_factors_of_tokens_gather_positions_first() {
    let layer = Dense::new(3, 2, true, 3);
    let (x, loss) = (noise([4, 5, 3], 1), Squared(noise([4, 2], 2)));
    let forward = |x: &Var| layer.forward(x)?.sum(&[1])?.scale(0.2);
    let mut reduced = KroneckerFactors::new(Fisher::Empirical, Share::Reduce);
    observe(&mut reduced, &loss, &x, forward);
    reduced.fold().unwrap();
    // The layer and the mean over tokens commute, so the reduced factors are those of mean tokens.
    let mean = x.sum(&[1]).unwrap().scale(0.2).unwrap();
    let expected = factors(Fisher::Empirical, &loss, &mean, |x| layer.forward(x));
    both_close(reduced.of(&layer.weight).unwrap(), expected.of(&layer.weight).unwrap(), "tokens");
}

#[test]
fn a_lookup_is_a_dense_layer_of_one_hot_rows() {
    let table = Parameter::new(noise([5, 3], 3));
    let dense = Dense {
        weight: Parameter::new(table.value().transpose(0, 1).unwrap().contiguous().unwrap()),
        bias: None,
    };
    let words = [1_i64, 4, 1, 0, 2, 1];
    let one_hot =
        Tensor::from_fn(
            [6, 5],
            DType::F64,
            |i| {
                if words[i / 5] == (i % 5) as i64 { 1.0 } else { 0.0 }
            },
        );
    let loss = Softmax::labels(6, 3);
    let words = Tensor::from_slice(&words, [6]).unwrap();
    let lookup = factors(Fisher::Exact, &loss, &words, |x| x.embedding(&x.tape()?.bind(&table)));
    let full = factors(Fisher::Exact, &loss, &one_hot, |x| dense.forward(x));
    let (lookup, full) = (lookup.of(&table).unwrap(), full.of(&dense.weight).unwrap());
    assert_eq!(lookup.form, Form::Lookup);
    let diagonal: Vec<f64> = full.a.iter().step_by(6).copied().collect();
    assert_close(&lookup.a, &diagonal, REORDERED, "frequencies");
    assert_close(&lookup.g, &full.g, REORDERED, "G");
}

#[test]
fn the_block_of_scale_and_shift_is_the_mean_square_of_per_example_gradients() {
    type Normed = fn(&Var, &Var, &Var) -> Result<Var>;
    let norms: [(&str, usize, Normed); 3] = [
        ("layer norm", 4, |x, scale, shift| x.layer_norm(Some(scale), Some(shift), 1e-5)),
        ("RMS norm", 4, |x, scale, shift| x.rms_norm(Some(scale), 1e-5)?.add(shift)),
        ("group norm", 2, |x, scale, shift| x.group_norm(2, Some(scale), Some(shift), 1e-5)),
    ];
    for (name, channels, normed) in norms {
        let [scale, shift] = [1, 2].map(|seed| Parameter::new(noise([channels], seed)));
        let (x, targets) = (noise([3, 2, 4], 3), noise([3, 8], 4));
        let forward = |x: &Var| {
            let tape = x.tape()?;
            let y = normed(x, &tape.bind(&scale), &tape.bind(&shift))?;
            let n = y.shape()[0];
            y.reshape([n, 8])
        };
        let found = factors(Fisher::Empirical, &Squared(targets.clone()), &x, forward);
        let found = &found.of(&scale).unwrap().g;
        let mut expected = vec![0.0; 2 * channels];
        for i in 0..3 {
            let tape = Tape::new();
            let y = forward(&tape.input(x.narrow(0, i, 1).unwrap())).unwrap();
            let loss = Squared(targets.narrow(0, i, 1).unwrap().contiguous().unwrap());
            let gradients = tape.backward(&engine::Likelihood::nll(&loss, &y).unwrap()).unwrap();
            let of = |p| numbers(gradients.of(p).unwrap());
            let both = [of(&scale), of(&shift)].concat();
            expected.iter_mut().zip(both).for_each(|(sum, g)| *sum += g * g / 3.0);
        }
        // RMS norm has no shift of its own: there it is an addition, which no factor covers.
        assert_close(found, &expected[..found.len()], REORDERED, name);
        assert_eq!(found.len(), if name == "RMS norm" { channels } else { 2 * channels });
    }
}

#[test]
fn the_running_average_is_a_weighted_mean_of_all_batches() {
    let layer = Dense::new(2, 1, false, 3);
    let mut running = KroneckerFactors::new(Fisher::Empirical, Share::Expand).decay(0.5);
    let mut batches = Vec::new();
    for seed in 0..3 {
        let (x, loss) = (noise([4, 2], seed), Squared(noise([4, 1], 10 + seed)));
        batches.push(factors(Fisher::Empirical, &loss, &x, |x| layer.forward(x)));
        observe(&mut running, &loss, &x, |x| layer.forward(x));
        running.fold().unwrap();
    }
    let mean = |part: fn(&Kronecker) -> &Vec<f64>| -> Vec<f64> {
        let all: Vec<_> = batches.iter().map(|b| part(b.of(&layer.weight).unwrap())).collect();
        let at = |i: usize| (0.25 * all[0][i] + 0.5 * all[1][i] + all[2][i]) / 1.75;
        (0..all[0].len()).map(at).collect()
    };
    let block = running.of(&layer.weight).unwrap();
    assert_close(&block.a, &mean(|k| &k.a), REORDERED, "A");
    assert_close(&block.g, &mean(|k| &k.g), REORDERED, "G");
}

#[test]
fn an_average_that_starts_from_the_identity_keeps_a_share_of_it() {
    let layer = Dense::new(2, 1, true, 3); // with the bias, A is 3×3
    let (x, loss) = (noise([4, 2], 1), Squared(noise([4, 1], 2)));
    let once = factors(Fisher::Empirical, &loss, &x, |x| layer.forward(x));
    let mut running = KroneckerFactors::new(Fisher::Empirical, Share::Expand)
        .decay(0.75)
        .start(AverageStart::Identity);
    for _ in 0..2 {
        observe(&mut running, &loss, &x, |x| layer.forward(x));
        running.fold().unwrap();
    }
    // After two steps 0.75² of the identity is left.
    let kept = 0.5625;
    let mixed = |new: &[f64], n: usize| -> Vec<f64> {
        let identity = |i: usize| f64::from(u8::from(i.is_multiple_of(n + 1)));
        (0..n * n).map(|i| kept * identity(i) + (1.0 - kept) * new[i]).collect()
    };
    let (block, new) = (running.of(&layer.weight).unwrap(), once.of(&layer.weight).unwrap());
    assert_close(&block.a, &mixed(&new.a, 3), REORDERED, "A");
    assert_close(&block.g, &mixed(&new.g, 1), REORDERED, "G");
}

#[test]
fn factors_that_are_not_finite_are_thrown_away_and_counted() {
    let layer = Dense::new(2, 1, false, 3);
    let (x, loss) = (noise([4, 2], 1), Squared(noise([4, 1], 2)));
    let mut factors = factors(Fisher::Empirical, &loss, &x, |x| layer.forward(x));
    let before = factors.of(&layer.weight).unwrap().clone();
    let broken = Tensor::full([4, 2], f64::INFINITY, DType::F64);
    observe(&mut factors, &loss, &broken, |x| layer.forward(x));
    factors.fold().unwrap();
    assert_eq!(factors.of(&layer.weight).unwrap(), &before);
    assert_eq!(factors.skipped(), 1);
}

#[test]
fn sampled_labels_come_from_the_given_generator() {
    let net = Net::new(&[3, 3], identity);
    let (x, loss) = (noise([5, 3], 1), Softmax::labels(5, 3));
    let drawn = |seed: u64| {
        let mut factors = KroneckerFactors::new(Fisher::Sampled { draws: 1 }, Share::Expand)
            .generator(Rng::new(seed));
        observe(&mut factors, &loss, &x, |x| net.forward(x));
        factors.fold().unwrap();
        factors.of(&net.layers[0].weight).unwrap().g.clone()
    };
    assert_eq!(drawn(3), drawn(3));
    assert_ne!(drawn(3), drawn(4));
}
