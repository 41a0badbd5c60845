//! The exact block of every kind of layer against gradients that are computed one example at a time.

use engine::{
    DType, Error, Geometry, Gradients, Likelihood, Parameter, Parameters, Result, Rng, Tape,
    Tensor, Var, Window,
};
use optim::Fisher;
use optim::audit::GradientNoise;
use optim::curvature::{
    ExactBlock, GaussNewton, RecordedBatch, diagonal, hutch_plus_plus, lanczos,
};

use super::models::{Net, Softmax, Squared, assert_close, noise, numbers, tanh};

/// The same sums in another order.
const REORDERED: f64 = 1e-10;

type Forward = dyn Fn(&Var, &[Var]) -> Result<Var>;

/// A model of one kind of layer, made of bare parameters, with outputs `[N, …]`.
pub struct Kind {
    pub name: &'static str,
    pub parameters: Vec<Parameter>,
    input: Tensor,
    forward: Box<Forward>,
}

fn kind(
    name: &'static str,
    shapes: &[&[usize]],
    input: Tensor,
    forward: impl Fn(&Var, &[Var]) -> Result<Var> + 'static,
) -> Kind {
    let parameter = |(i, shape): (usize, &&[usize])| {
        let shape = engine::Shape::new(shape).unwrap();
        Parameter::new(Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut Rng::new(50 + i as u64)))
    };
    let parameters = shapes.iter().enumerate().map(parameter).collect();
    Kind { name, parameters, input, forward: Box::new(forward) }
}

const N: usize = 3;

fn flat(x: &Var) -> Result<Var> {
    let n = x.shape()[0];
    x.tanh()?.reshape([n, x.numel() / n])
}

fn indices<const R: usize>(shape: [usize; R], rows: usize) -> Tensor {
    Tensor::from_fn(shape, DType::I64, |i| ((i * 5 + 1) % rows) as f64)
}

/// Every kind of layer that leaves a record. The last layer of each is followed by tanh, so that no
/// gradient is a constant.
pub fn kinds() -> Vec<Kind> {
    let window = Window { kernel: (2, 3), stride: (2, 1), padding: (1, 0), dilation: (1, 2) };
    let plain = Geometry { window, groups: 1 };
    let grouped = Geometry { window, groups: 2 };
    let depthwise = Geometry { window, groups: 4 };
    let small = Window { stride: (1, 2), padding: (1, 0), ..Window::new((2, 2)) };
    let transposed = Geometry { window: small, groups: 2 };
    let images = |channels: usize| noise([N, channels, 4, 7], 1);
    let fixed = (noise([2], 8), Tensor::from_slice(&[0.7, 2.0], [2]).unwrap());
    vec![
        kind("dense", &[&[4, 5], &[4]], noise([N, 5], 1), |x, p| {
            flat(&x.linear(&p[0], Some(&p[1]))?)
        }),
        kind("dense without bias", &[&[4, 5]], noise([N, 5], 1), |x, p| {
            flat(&x.linear(&p[0], None)?)
        }),
        kind("tokens", &[&[4, 5], &[4]], noise([N, 3, 5], 1), |x, p| {
            flat(&x.linear(&p[0], Some(&p[1]))?)
        }),
        kind("used twice", &[&[5, 5], &[5]], noise([N, 5], 1), |x, p| {
            let once = x.linear(&p[0], Some(&p[1]))?.tanh()?;
            flat(&once.linear(&p[0], Some(&p[1]))?)
        }),
        kind("convolution", &[&[4, 3, 2, 3], &[4]], images(3), move |x, p| {
            flat(&x.conv2d(&p[0], Some(&p[1]), plain)?)
        }),
        kind("groups", &[&[6, 2, 2, 3], &[6]], images(4), move |x, p| {
            flat(&x.conv2d(&p[0], Some(&p[1]), grouped)?)
        }),
        kind("depthwise", &[&[4, 1, 2, 3]], images(4), move |x, p| {
            flat(&x.conv2d(&p[0], None, depthwise)?)
        }),
        kind("transposed", &[&[4, 3, 2, 2]], noise([N, 4, 3, 2], 1), move |x, p| {
            flat(&x.conv_transpose2d(&p[0], None, transposed, (0, 1))?)
        }),
        kind(
            "transposed with bias",
            &[&[4, 3, 2, 2], &[6]],
            noise([N, 4, 3, 2], 1),
            move |x, p| flat(&x.conv_transpose2d(&p[0], Some(&p[1]), transposed, (0, 1))?),
        ),
        kind("embedding", &[&[5, 3]], indices([N, 4], 5), |x, p| flat(&x.embedding(&p[0])?)),
        kind("tied readout", &[&[5, 3], &[5]], indices([N, 4], 5), |x, p| {
            flat(&x.embedding(&p[0])?.tanh()?.linear(&p[0], Some(&p[1]))?)
        }),
        kind("batch norm", &[&[2], &[2]], noise([N, 2, 3], 1), move |x, p| {
            flat(&x.batch_norm_fixed(&p[0], &p[1], &fixed.0, &fixed.1, 0.1)?)
        }),
        kind("layer norm", &[&[4], &[4]], noise([N, 2, 4], 1), |x, p| {
            flat(&x.layer_norm(Some(&p[0]), Some(&p[1]), 0.1)?)
        }),
        kind("group norm", &[&[4], &[4]], noise([N, 4, 3], 1), |x, p| {
            flat(&x.group_norm(2, Some(&p[0]), Some(&p[1]), 0.1)?)
        }),
        kind("RMS norm", &[&[4]], noise([N, 2, 4], 1), |x, p| flat(&x.rms_norm(Some(&p[0]), 0.1)?)),
    ]
}

impl Kind {
    fn outputs(&self, tape: &Tape, x: &Tensor) -> Var {
        let bound: Vec<Var> = self.parameters.iter().map(|p| tape.bind(p)).collect();
        (self.forward)(&tape.input(x.clone()), &bound).unwrap()
    }

    /// The outputs for its own input, `[N, C]`.
    pub fn outputs_of(&self, tape: &Tape) -> Var {
        self.outputs(tape, &self.input)
    }

    /// The batch, swept, and the gradients of its loss. The tape has to live.
    pub fn recorded(&self, tape: &Tape, fisher: Fisher, seed: u64) -> (RecordedBatch, Gradients) {
        let y = self.outputs(tape, &self.input);
        let loss = Squared(noise([N, y.numel() / N], 2));
        let rng = &mut Rng::new(seed);
        let batch = RecordedBatch::new(tape, &y, &loss, N, fisher, rng).unwrap();
        (batch, tape.backward(&loss.nll(&y).unwrap()).unwrap())
    }

    fn block(&self, fisher: Fisher, seed: u64) -> ExactBlock {
        let (batch, _) = self.recorded(&Tape::new(), fisher, seed);
        ExactBlock::new(&[&batch], &self.references()).unwrap()
    }

    fn diagonal(&self, fisher: Fisher) -> Vec<f64> {
        let (batch, _) = self.recorded(&Tape::new(), fisher, 0);
        diagonal(&[&batch], &self.references()).unwrap()
    }

    pub fn references(&self) -> Vec<&Parameter> {
        self.parameters.iter().collect()
    }

    /// The gradient of every example's own loss, ½‖y − target‖², one at a time.
    fn gradients(&self) -> Vec<Vec<f64>> {
        let width = self.outputs(&Tape::new(), &self.input).numel() / N;
        let targets = numbers(&noise([N, width], 2));
        let one = |e: usize| {
            let residual = |y: &Tensor| {
                numbers(y).iter().zip(&targets[e * width..]).map(|(y, t)| y - t).collect()
            };
            self.gradient(e, residual)
        };
        (0..N).map(one).collect()
    }

    /// The gradient of ⟨seed, outputs⟩ of one example alone, by an ordinary backward pass.
    fn gradient(&self, example: usize, seed: impl Fn(&Tensor) -> Vec<f64>) -> Vec<f64> {
        let tape = Tape::new();
        let y = self.outputs(&tape, &self.input.narrow(0, example, 1).unwrap());
        let seed = Tensor::from_slice(&seed(&y.value()), *y.shape()).unwrap();
        let along = y.mul(&Var::constant(&seed)).unwrap().sum_all().unwrap();
        let gradients = tape.backward(&along).unwrap();
        let of = |p: &Parameter| numbers(gradients.of(p).unwrap());
        self.parameters.iter().flat_map(of).collect()
    }
}

/// 1/N Σ g gᵀ
fn outer_products(gradients: &[Vec<f64>]) -> Vec<f64> {
    let size = gradients[0].len();
    let entry = |k: usize| -> f64 {
        gradients.iter().map(|g| g[k / size] * g[k % size]).sum::<f64>() / N as f64
    };
    (0..size * size).map(entry).collect()
}

#[test]
fn the_empirical_block_is_the_sum_of_outer_products_of_every_example_by_itself() {
    for kind in kinds() {
        let expected = outer_products(&kind.gradients());
        let block = kind.block(Fisher::Empirical, 0);
        assert_eq!(block.rows(), N, "{}", kind.name);
        assert_close(&block.matrix(), &expected, REORDERED, kind.name);
    }
}

#[test]
fn the_exact_block_is_the_sum_over_outputs_of_every_example_by_itself() {
    for kind in kinds() {
        let width = kind.outputs(&Tape::new(), &kind.input).numel() / N;
        // The Hessian of ½|y − t|² is the identity: one gradient for each output.
        let one = |k: usize| {
            let unit = |y: &Tensor| {
                (0..y.numel()).map(|i| if i == k % width { 1.0 } else { 0.0 }).collect()
            };
            kind.gradient(k / width, unit)
        };
        let expected = outer_products(&(0..N * width).map(one).collect::<Vec<_>>());
        assert_close(&kind.block(Fisher::Exact, 0).matrix(), &expected, REORDERED, kind.name);
    }
}

#[test]
fn the_sampled_block_is_the_mean_over_draws_of_every_example_by_itself() {
    for kind in kinds() {
        let tape = Tape::new();
        let y = kind.outputs(&tape, &kind.input);
        let width = y.numel() / N;
        let loss = Squared(noise([N, width], 2));
        let mut rng = Rng::new(7);
        let mut gradients = Vec::new();
        for _ in 0..2 {
            let drawn = numbers(&loss.sampled_seed(&y.value(), &mut rng).unwrap());
            for e in 0..N {
                let part = drawn[e * width..(e + 1) * width].to_vec();
                // The seed is of the mean over N terms, and there are two draws.
                let scaled: Vec<f64> = part.iter().map(|s| s * N as f64 / 2.0_f64.sqrt()).collect();
                gradients.push(kind.gradient(e, |_| scaled.clone()));
            }
        }
        let block = kind.block(Fisher::Sampled { draws: 2 }, 7);
        assert_close(&block.matrix(), &outer_products(&gradients), REORDERED, kind.name);
    }
}

#[test]
fn batch_norm_in_training_counts_each_example_s_own_use_of_scale_and_shift() {
    let [scale, shift] = [1, 2].map(|seed| Parameter::new(noise([2], seed)));
    let (x, targets) = (noise([N, 2, 3], 3), noise([N, 6], 4));
    let outputs = |y: &Var| y.tanh()?.reshape([N, 6]);
    let tape = Tape::new();
    let (y, ..) =
        tape.input(x.clone()).batch_norm(&tape.bind(&scale), &tape.bind(&shift), 0.1).unwrap();
    let loss = Squared(targets);
    let y = outputs(&y).unwrap();
    let rng = &mut Rng::new(0);
    let batch = RecordedBatch::new(&tape, &y, &loss, N, Fisher::Empirical, rng).unwrap();
    let block = ExactBlock::new(&[&batch], &[&scale, &shift]).unwrap();
    // The same network, in which every example has a scale and a shift of its own.
    let tape = Tape::new();
    let constant = |value: f64| Var::constant(&Tensor::full([2], value, DType::F64));
    let (unit, ..) = tape.input(x).batch_norm(&constant(1.0), &constant(0.0), 0.1).unwrap();
    let copies = |p: &Parameter| {
        let copies = Tensor::from_fn([N, 2, 1], DType::F64, |i| numbers(p.value())[i % 2]);
        tape.watch(copies)
    };
    let (own_scale, own_shift) = (copies(&scale), copies(&shift));
    let y = outputs(&unit.mul(&own_scale).unwrap().add(&own_shift).unwrap()).unwrap();
    let gradients = tape.backward(&loss.nll(&y).unwrap()).unwrap();
    let of = |var: &Var| numbers(gradients.of_var(var).unwrap());
    let (scales, shifts) = (of(&own_scale), of(&own_shift));
    let one = |e: usize| {
        let both = [&scales[2 * e..2 * e + 2], &shifts[2 * e..2 * e + 2]].concat();
        both.iter().map(|g| g * N as f64).collect()
    };
    let expected = outer_products(&(0..N).map(one).collect::<Vec<Vec<f64>>>());
    assert_close(&block.matrix(), &expected, REORDERED, "batch norm in training");
}

#[test]
fn the_exact_block_of_tokens_does_not_mix_terms() {
    // Attention by hand: each token sees the mean of all, so every term has a gradient in every row.
    let weight = Parameter::new(noise([4, 5], 3));
    let (x, labels) = (noise([2, 3, 5], 1), Softmax::labels(6, 4));
    let tape = Tape::new();
    let tokens = tape.input(x).linear(&tape.bind(&weight), None).unwrap().tanh().unwrap();
    let mean = tokens.sum(&[1]).unwrap().reshape([2, 1, 4]).unwrap();
    let y = tokens.add(&mean).unwrap().reshape([6, 4]).unwrap();
    let rng = &mut Rng::new(0);
    let batch = RecordedBatch::new(&tape, &y, &labels, 2, Fisher::Exact, rng).unwrap();
    let block = ExactBlock::new(&[&batch], &[&weight]).unwrap();
    // 1/N Σ over terms of Jᵀ (diag p − p pᵀ) J, with J from one backward pass for each output.
    let outputs = y.reshape([24]).unwrap();
    let jacobian: Vec<Vec<f64>> = (0..24)
        .map(|i| {
            let one = outputs.narrow(0, i, 1).unwrap().sum_all().unwrap();
            numbers(tape.backward(&one).unwrap().of(&weight).unwrap())
        })
        .collect();
    let p = numbers(&y.value().softmax(-1).unwrap());
    let mut expected = vec![0.0; 400];
    for (t, c, d) in (0..6 * 16).map(|k| (k / 16, k / 4 % 4, k % 4)) {
        let (pc, pd) = (p[4 * t + c], p[4 * t + d]);
        let h = if c == d { pc - pc * pd } else { -pc * pd };
        for (at, entry) in expected.iter_mut().enumerate() {
            *entry += jacobian[4 * t + c][at / 20] * h * jacobian[4 * t + d][at % 20] / 6.0;
        }
    }
    assert_close(&block.matrix(), &expected, REORDERED, "tokens");
}

#[test]
fn two_micro_batches_make_the_block_of_the_whole_batch() {
    for kind in kinds() {
        let whole = kind.block(Fisher::Exact, 0);
        let part = |start: usize, length: usize| {
            let tape = Tape::new();
            let x = kind.input.narrow(0, start, length).unwrap();
            let y = kind.outputs(&tape, &x);
            let loss = Squared(noise([length, y.numel() / length], 2));
            let rng = &mut Rng::new(0);
            RecordedBatch::new(&tape, &y, &loss, length, Fisher::Exact, rng).unwrap()
        };
        let (first, second) = (part(0, 1), part(1, 2));
        let block = ExactBlock::new(&[&first, &second], &kind.references()).unwrap();
        assert_close(&block.matrix(), &whole.matrix(), REORDERED, kind.name);
    }
}

#[test]
fn all_that_a_block_says_of_itself_is_what_its_matrix_says() {
    for kind in kinds() {
        for fisher in [Fisher::Empirical, Fisher::Exact] {
            let (block, what) = (kind.block(fisher, 0), kind.name);
            let (f, n) = (block.matrix(), block.size());
            let diagonal: Vec<f64> = f.iter().step_by(n + 1).copied().collect();
            assert_close(&block.diagonal(), &diagonal, REORDERED, what);
            assert_close(&kind.diagonal(fisher), &diagonal, REORDERED, what);
            assert_close(&[block.trace()], &[diagonal.iter().sum()], REORDERED, what);
            let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
            assert_close(&[block.frobenius()], &[square(&f).sqrt()], REORDERED, what);
            let eigenvalues = block.eigenvalues().unwrap();
            assert_close(&[eigenvalues.iter().sum()], &[block.trace()], REORDERED, what);
            assert_close(&[square(&eigenvalues)], &[square(&f)], REORDERED, what);
            let v = numbers(&noise([n], 9));
            let times = block.times(&v).unwrap();
            let rows = f.chunks_exact(n);
            let expected: Vec<f64> =
                rows.map(|row| row.iter().zip(&v).map(|(x, y)| x * y).sum()).collect();
            assert_close(&times, &expected, REORDERED, what);
            let x = block.solve(0.1, &v).unwrap();
            let back: Vec<f64> =
                block.times(&x).unwrap().iter().zip(&x).map(|(fx, x)| fx + 0.1 * x).collect();
            assert_close(&back, &v, REORDERED, what);
        }
    }
}

#[test]
fn a_parameter_that_records_do_not_tell_everything_about_is_refused() {
    let (weight, positions, lonely) =
        (Parameter::new(noise([4, 5], 3)), Parameter::new(noise([3, 5], 4)), noise([2], 5));
    let lonely = Parameter::new(lonely);
    let tape = Tape::new();
    let places = tape.input(indices([3], 3)).embedding(&tape.bind(&positions)).unwrap();
    let x = tape.input(noise([2, 3, 5], 1)).add(&places).unwrap();
    let bound = tape.bind(&weight);
    let y = x.linear(&bound, None).unwrap().sum(&[1]).unwrap();
    let y = y.mul(&bound.sum_all().unwrap()).unwrap();
    let loss = Squared(noise([2, 4], 2));
    let rng = &mut Rng::new(0);
    let batch = RecordedBatch::new(&tape, &y, &loss, 2, Fisher::Empirical, rng).unwrap();
    for (parameter, expected) in
        [(&weight, "sum"), (&positions, "a layer that examples share"), (&lonely, "no layer")]
    {
        match ExactBlock::new(&[&batch], &[parameter]) {
            Err(Error::Uncovered { op, .. }) => assert_eq!(op, expected),
            other => panic!("{other:?}"),
        }
    }
    let block = ExactBlock::new(&[], &[]).unwrap();
    assert!(matches!(block.times(&[1.0]), Err(Error::Argument { .. })));
    assert!(matches!(
        RecordedBatch::new(&tape, &y, &loss, 3, Fisher::Exact, rng),
        Err(Error::Argument { name: "examples", .. })
    ));
}

#[test]
fn a_gauss_newton_product_is_the_exact_block_of_all_parameters_times_the_vector() {
    let net = Net::new(&[4, 5, 3], tanh);
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let tape = Tape::new();
    let y = net.forward(&tape.input(x)).unwrap();
    let rng = &mut Rng::new(0);
    let batch = RecordedBatch::new(&tape, &y, &loss, 6, Fisher::Exact, rng).unwrap();
    let parameters: Vec<&Parameter> = net.parameters().into_iter().map(|(_, p)| p).collect();
    let block = ExactBlock::new(&[&batch], &parameters).unwrap();
    let product = GaussNewton::new(&tape, &y, &loss).unwrap();
    for seed in 0..3 {
        let v = numbers(&noise([block.size()], seed));
        let got = product.times(&net, &v).unwrap();
        assert_close(&got, &block.times(&v).unwrap(), REORDERED, "C v");
    }
    // So the spectrum and the trace can be had from products alone.
    let v = numbers(&noise([block.size()], 9));
    let found = lanczos(|v| product.times(&net, v), &v, 30).unwrap();
    let (got, exact) = (found.values.last().unwrap(), block.eigenvalues().unwrap());
    assert_close(&[*got], &[*exact.last().unwrap()], REORDERED, "the largest eigenvalue");
    let rank = 6 * 2; // six examples, three classes less one
    let trace = hutch_plus_plus(|v| product.times(&net, v), block.size(), 3 * rank, rng).unwrap();
    assert_close(&[trace.value], &[block.trace()], REORDERED, "the trace");
}

#[test]
fn the_noise_of_gradients_is_that_of_every_example_by_itself() {
    for kind in kinds() {
        let gradients = kind.gradients();
        let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
        let norms: Vec<f64> = gradients.iter().map(|g| square(g).sqrt()).collect();
        let mean: Vec<f64> = (0..gradients[0].len())
            .map(|i| gradients.iter().map(|g| g[i]).sum::<f64>() / 3.0)
            .collect();
        let apart =
            |g: &Vec<f64>| square(&g.iter().zip(&mean).map(|(x, m)| x - m).collect::<Vec<_>>());
        let variance = gradients.iter().map(apart).sum::<f64>() / (N - 1) as f64;
        let signal = square(&mean) - variance / N as f64;
        let tape = Tape::new();
        let (batch, grads) = kind.recorded(&tape, Fisher::Empirical, 0);
        let found = GradientNoise::of(&batch, &kind.parameters, &grads).unwrap();
        assert_close(&found.norms, &norms, REORDERED, kind.name);
        assert_close(&[found.mean_square], &[square(&mean)], REORDERED, kind.name);
        assert_close(&[found.variance], &[variance], REORDERED, kind.name);
        assert_close(&[found.signal()], &[signal], REORDERED, kind.name);
        let scale = if signal > 0.0 { variance / signal } else { f64::INFINITY };
        assert!(found.scale() == scale || (found.scale() / scale - 1.0).abs() < REORDERED);
        let (exact, _) = kind.recorded(&tape, Fisher::Exact, 0);
        let refused = GradientNoise::of(&exact, &kind.parameters, &grads);
        assert!(matches!(refused, Err(Error::Argument { name: "fisher", .. })));
    }
}
