//! Approximate blocks as operators: against matrices that are written out, and the theory's equalities.

use engine::{DType, Geometry, Likelihood, Parameter, Result, Rng, Tape, Tensor, Var, Window};
use optim::Fisher;
use optim::audit::{LayerOperator, Layout};
use optim::curvature::{ExactBlock, Form, Kronecker, KroneckerFactors, RecordedBatch, Share};

use super::models::{
    Net, REORDERED, Softmax, Squared, assert_close, identity, noise, numbers, tanh,
};

/// A distance is the root of a difference of squares: √(machine epsilon), times ten.
const ROOT_OF_EPSILON: f64 = 1e-7;

pub fn recorded(
    x: &Tensor,
    loss: &dyn Likelihood,
    fisher: Fisher,
    forward: impl Fn(&Var) -> Result<Var>,
) -> (Tape, RecordedBatch) {
    let tape = Tape::new();
    let y = forward(&tape.input(x.clone())).unwrap();
    let rng = &mut Rng::new(0);
    let batch = RecordedBatch::new(&tape, &y, loss, x.shape()[0], fisher, rng).unwrap();
    (tape, batch)
}

pub fn kronecker(batch: &RecordedBatch, share: Share, weight: &Parameter) -> Kronecker {
    let mut factors = KroneckerFactors::new(batch.fisher(), share);
    batch.replay(&mut factors).unwrap();
    factors.fold().unwrap();
    factors.of(weight).unwrap().clone()
}

/// The operator's matrix, column by column.
fn written_out(operator: &LayerOperator) -> Vec<f64> {
    let size = operator.layout().size();
    let unit = |k: usize| (0..size).map(|i| if i == k { 1.0 } else { 0.0 }).collect::<Vec<_>>();
    (0..size).flat_map(|k| operator.times(&unit(k)).unwrap()).collect()
}

fn distance(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
}

/// Entry (i, j) of a Kronecker block over (weight, bias), from the definition.
fn entry(block: &Kronecker, i: usize, j: usize) -> f64 {
    let (n, m) = (block.inputs(), block.outputs());
    // Where a number of (weight, bias) stands: its group, its row, its column.
    let place = |i: usize| match block.form {
        Form::Dense => {
            let width = n - usize::from(block.bias.is_some());
            let weights = block.groups * m * width;
            let (row, column) =
                if i < weights { (i / width, i % width) } else { (i - weights, width) };
            (row / m, row % m, column)
        }
        Form::Transposed => (i / m / n, i % m, i / m % n),
        Form::Lookup => (0, i % m, i / m),
        Form::ScaleShift | Form::Joint { .. } => unreachable!("they have no factors"),
    };
    let ((k, row, column), (l, other, across)) = (place(i), place(j));
    let a = match block.form {
        Form::Lookup if column == across => block.a[column],
        Form::Lookup => 0.0,
        _ => block.a[k * n * n + column * n + across],
    };
    if k == l { block.g[k * m * m + row * m + other] * a } else { 0.0 }
}

#[test]
fn a_kronecker_operator_is_the_product_of_its_factors_for_every_form_and_group() {
    let window = Window { kernel: (2, 2), stride: (1, 2), padding: (1, 0), dilation: (1, 1) };
    let geometry = Geometry { window, groups: 2 };
    let parameter = |shape: &[usize], seed| {
        let shape = engine::Shape::new(shape).unwrap();
        Parameter::new(Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut Rng::new(seed)))
    };
    let bias = parameter(&[6], 9);
    type Forward = fn(&Var, &Var, &Var, Geometry) -> Result<Var>;
    let cases: [(&str, &[usize], Tensor, bool, Forward); 4] = [
        ("groups", &[6, 2, 2, 2], noise([3, 4, 3, 4], 1), true, |x, w, b, g| {
            x.conv2d(w, Some(b), g)
        }),
        ("dense", &[6, 3], noise([3, 3], 1), true, |x, w, b, _| x.linear(w, Some(b))),
        ("transposed", &[4, 3, 2, 2], noise([3, 4, 3, 2], 1), false, |x, w, _, g| {
            x.conv_transpose2d(w, None, g, (0, 1))
        }),
        (
            "lookup",
            &[5, 3],
            Tensor::from_fn([3, 4], DType::I64, |i| (i * i % 5) as f64),
            false,
            |x, w, _, _| x.embedding(w),
        ),
    ];
    for (name, shape, x, has_bias, forward) in cases {
        let weight = parameter(shape, 4);
        let outputs = |x: &Var| {
            let tape = x.tape()?;
            let y = forward(x, &tape.bind(&weight), &tape.bind(&bias), geometry)?.tanh()?;
            y.reshape([3, y.numel() / 3])
        };
        let width =
            outputs(&Tape::new().input(x.clone())).unwrap_or_else(|e| panic!("{name}: {e}"));
        let loss = Squared(noise([3, width.numel() / 3], 2));
        let (_tape, batch) = recorded(&x, &loss, Fisher::Empirical, outputs);
        let block = kronecker(&batch, Share::Expand, &weight);
        assert_eq!(block.bias.is_some(), has_bias);
        let operator = LayerOperator::kronecker(&block).unwrap();
        let size = operator.layout().size();
        let expected: Vec<f64> =
            (0..size * size).map(|k| entry(&block, k / size, k % size)).collect();
        let got = written_out(&operator);
        assert_close(&got, &expected, REORDERED, name);
        // And what it says of itself.
        let trace: f64 = expected.iter().step_by(size + 1).sum();
        assert_close(&[operator.trace()], &[trace], REORDERED, name);
        let norm = distance(&expected, &vec![0.0; size * size]);
        assert_close(&[operator.frobenius()], &[norm], REORDERED, name);
        let v = numbers(&noise([size], 3));
        let solved = operator.solve(0.2, &v).unwrap();
        let back = operator.function(&solved, |s| s + 0.2).unwrap();
        assert_close(&back, &v, REORDERED, name);
        let halves = operator.function(&operator.function(&v, f64::sqrt).unwrap(), f64::sqrt);
        assert_close(&halves.unwrap(), &operator.times(&v).unwrap(), REORDERED, name);
        // The distance from the exact block, against both written out.
        let own: Vec<&Parameter> = if has_bias { vec![&weight, &bias] } else { vec![&weight] };
        let exact = ExactBlock::new(&[&batch], &own).unwrap();
        for operator in [
            operator.clone(),
            operator.corrected(&exact).unwrap(),
            operator.scaled(3.0),
            LayerOperator::shampoo_squared(&exact, Layout::of(&block)).unwrap(),
            LayerOperator::diagonal(exact.diagonal()),
        ] {
            let (matrix, f) = (written_out(&operator), exact.matrix());
            let found = operator.distance(&exact).unwrap();
            let expected = distance(&matrix, &f) / exact.frobenius();
            assert_close(&[found.error], &[expected], ROOT_OF_EPSILON, name);
            let inner: f64 = matrix.iter().zip(&f).map(|(x, y)| x * y).sum();
            let c = inner / operator.frobenius().powi(2);
            let scaled: Vec<f64> = matrix.iter().map(|x| c * x).collect();
            let expected = distance(&scaled, &f) / exact.frobenius();
            assert_close(&[found.shape], &[expected], ROOT_OF_EPSILON, name);
            assert!(found.basis <= found.error + ROOT_OF_EPSILON, "{name}: {found:?}");
        }
    }
}

#[test]
fn every_kronecker_product_is_exact_in_a_deep_linear_net_with_squared_loss() {
    let net = Net::new(&[4, 3, 5, 2], identity);
    let (x, loss) = (noise([6, 4], 1), Squared(noise([6, 2], 2)));
    let (_tape, batch) = recorded(&x, &loss, Fisher::Exact, |x| net.forward(x));
    for layer in &net.layers {
        all_equal(&batch, &layer.weight, layer.bias.as_ref());
    }
}

#[test]
fn the_pi_rule_as_an_operator_solves_what_kfac_solves() {
    use optim::curvature::{BlockInverse, DampingRule, columns};
    let (net, lambda) = (Net::new(&[4, 5, 3], tanh), 0.03);
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let (_tape, batch) = recorded(&x, &loss, Fisher::Exact, |x| net.forward(x));
    for layer in &net.layers {
        let block = kronecker(&batch, Share::Expand, &layer.weight);
        let all = columns(&block, true, true);
        let inverse = BlockInverse::new(&block, all, lambda, DampingRule::Pi).unwrap();
        let like = |p: &Parameter| {
            Tensor::normal(*p.value().shape(), 0.0, 1.0, DType::F64, &mut Rng::new(7))
        };
        let (w, b) = (like(&layer.weight), layer.bias.as_ref().map(like));
        let (of_w, of_b) = inverse.direction(block.form, Some(&w), b.as_ref()).unwrap();
        let joined = |w: &Tensor, b: Option<&Tensor>| {
            [numbers(w), b.map(numbers).unwrap_or_default()].concat()
        };
        let kfac = joined(&of_w.unwrap(), of_b.as_ref());
        let operator = LayerOperator::kronecker_pi(&block, lambda).unwrap();
        let v = joined(&w, b.as_ref());
        assert_close(&operator.solve(lambda, &v).unwrap(), &kfac, 1e-9, "π");
        // And it is another step than with λ on the block itself.
        let exact = LayerOperator::kronecker(&block).unwrap().solve(lambda, &v).unwrap();
        assert!(distance(&exact, &kfac) > 0.01 * distance(&kfac, &vec![0.0; kfac.len()]));
    }
}

#[test]
fn with_one_example_every_kronecker_product_is_exact() {
    let net = Net::new(&[4, 3, 5, 3], tanh);
    let (x, loss) = (noise([1, 4], 1), Softmax(vec![2]));
    for fisher in [Fisher::Empirical, Fisher::Exact] {
        let (_tape, batch) = recorded(&x, &loss, fisher, |x| net.forward(x));
        for layer in &net.layers {
            all_equal(&batch, &layer.weight, layer.bias.as_ref());
        }
    }
}

/// K-FAC, its eigenvalue correction and Shampoo² are the exact block.
fn all_equal(batch: &RecordedBatch, weight: &Parameter, bias: Option<&Parameter>) {
    let own: Vec<&Parameter> = std::iter::once(weight).chain(bias).collect();
    let exact = ExactBlock::new(&[batch], &own).unwrap();
    let kfac = LayerOperator::kronecker(&kronecker(batch, Share::Expand, weight)).unwrap();
    let shampoo = LayerOperator::shampoo_squared(&exact, kfac.layout()).unwrap();
    for (name, operator) in
        [("K-FAC", &kfac), ("EKFAC", &kfac.corrected(&exact).unwrap()), ("Shampoo²", &shampoo)]
    {
        assert_close(&written_out(operator), &exact.matrix(), REORDERED, name);
        assert!(operator.distance(&exact).unwrap().error < ROOT_OF_EPSILON, "{name}");
    }
    let diagonal = LayerOperator::diagonal(exact.diagonal());
    let error = diagonal.distance(&exact).unwrap().error;
    assert!(error > 0.1, "a diagonal is not the block: {error}");
}

#[test]
fn expand_is_exact_for_terms_in_every_position_and_reduce_for_a_mean_over_positions() {
    // Eschenhagen et al. 2023, propositions 1 and 2: deep linear networks with squared loss.
    let net = Net::new(&[4, 3, 2], identity);
    let x = noise([3, 5, 4], 1);
    let each = |x: &Var| net.forward(x)?.reshape([15, 2]);
    let mean = |x: &Var| net.forward(x)?.sum(&[1])?.scale(0.2);
    let (_tape, expanded) = recorded(&x, &Squared(noise([15, 2], 2)), Fisher::Exact, each);
    let (_tape, reduced) = recorded(&x, &Squared(noise([3, 2], 2)), Fisher::Exact, mean);
    for layer in &net.layers {
        let own: Vec<&Parameter> = std::iter::once(&layer.weight).chain(&layer.bias).collect();
        for (batch, right, wrong) in
            [(&expanded, Share::Expand, Share::Reduce), (&reduced, Share::Reduce, Share::Expand)]
        {
            let exact = ExactBlock::new(&[batch], &own).unwrap();
            let of =
                |share| LayerOperator::kronecker(&kronecker(batch, share, &layer.weight)).unwrap();
            assert_close(&written_out(&of(right)), &exact.matrix(), REORDERED, "the right one");
            assert!(of(wrong).distance(&exact).unwrap().error > 0.01, "{wrong:?}");
        }
    }
}

#[test]
fn no_eigenvalues_come_nearer_than_the_corrected_ones() {
    let net = Net::new(&[4, 5, 3], tanh);
    let (x, loss) = (noise([8, 4], 1), Softmax::labels(8, 3));
    for fisher in [Fisher::Empirical, Fisher::Exact] {
        let (_tape, batch) = recorded(&x, &loss, fisher, |x| net.forward(x));
        for layer in &net.layers {
            let own: Vec<&Parameter> = std::iter::once(&layer.weight).chain(&layer.bias).collect();
            let exact = ExactBlock::new(&[&batch], &own).unwrap();
            let kfac = kronecker(&batch, Share::Expand, &layer.weight);
            let kfac = LayerOperator::kronecker(&kfac).unwrap();
            let best = kfac.corrected(&exact).unwrap();
            let (kfac, ekfac) = (kfac.distance(&exact).unwrap(), best.distance(&exact).unwrap());
            assert!((ekfac.error - ekfac.basis).abs() < ROOT_OF_EPSILON);
            assert!(ekfac.error < kfac.error, "{ekfac:?} {kfac:?}");
            let trace = best.trace();
            assert_close(&[trace], &[exact.trace()], REORDERED, "a rotation keeps the trace");
            for c in [0.9, 1.1] {
                assert!(best.scaled(c).distance(&exact).unwrap().error > ekfac.error);
            }
        }
    }
}
