//! Second-order optimizers against closed forms: where each of them is exact, and what it must equal.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use engine::{
    DType, Gradients, Layer, LayerRecord, Likelihood, Parameter, Parameters, Result, Rng, Tape,
    Tensor, Var, parameters,
};
use kernels::linalg;
use nn::{CrossEntropy, Mse};
use optim::curvature::{GaussNewton, Hessian, staleness};
use optim::{
    Batch, EkfacConfig, Fisher, HessianFree, HessianFreeConfig, KlShampoo, KlShampooConfig, Lbfgs,
    LbfgsConfig, Newton, NewtonConfig, Optimizer, Psgd, PsgdConfig, Sam, SamConfig, Sgd, SgdConfig,
    SingdConfig, TntConfig, backward,
};
use optim::{LayerRule, LayerStep, Layerwise};

fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut Rng::new(seed))
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().unwrap()
}

fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0_f64, |s, x| s.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}, at {i}: {a} and {b}");
    }
}

/// One layer of inputs X [N, n] and gradients of its terms D [N, m].
struct Seen {
    x: Tensor,
    d: Tensor,
}

impl Seen {
    fn new(rows: usize, n: usize, m: usize) -> Self {
        Self { x: noise([rows, n], 1), d: noise([rows, m], 2) }
    }

    fn gradient(&self) -> Tensor {
        let sum = self.d.transpose(0, 1).unwrap().matmul(&self.x).unwrap();
        sum.scale(1.0 / self.x.shape()[0] as f64).unwrap()
    }

    /// Lets an optimizer see the layer and step; the step it took, negated.
    fn step<R: LayerRule>(&self, optimizer: &mut Layerwise<R>, weight: &mut Parameter) -> Vec<f64> {
        let before = numbers(weight.value());
        let terms = self.x.shape()[0];
        let record = LayerRecord {
            layer: Layer::Dense,
            weight: weight.id(),
            weight_shape: *weight.value().shape(),
            bias: None,
            input: self.x.clone(),
            moments: None,
            output_grad: self.d.scale(1.0 / terms as f64).unwrap(),
            is_last: false,
        };
        let source = optimizer.curvature().unwrap();
        source.begin_sweep(0);
        source.observe(&record).unwrap();
        source.finish(terms).unwrap();
        let mut grads = Gradients::default();
        grads.set(weight, self.gradient());
        optimizer.step(weight, &grads).unwrap();
        before.iter().zip(numbers(weight.value())).map(|(a, b)| a - b).collect()
    }

    /// 1/N Σ vec(d aᵀ) vec(d aᵀ)ᵀ, entry by entry.
    fn block(&self) -> Vec<f64> {
        let (x, d) = (numbers(&self.x), numbers(&self.d));
        let (n, m, rows) = (self.x.shape()[1], self.d.shape()[1], self.x.shape()[0]);
        let mut block = vec![0.0; (n * m) * (n * m)];
        for (x, d) in x.chunks(n).zip(d.chunks(m)) {
            let g: Vec<f64> = d.iter().flat_map(|d| x.iter().map(move |x| d * x)).collect();
            for (row, a) in block.chunks_mut(n * m).zip(&g) {
                row.iter_mut().zip(&g).for_each(|(s, b)| *s += a * b / rows as f64);
            }
        }
        block
    }

    /// Xᵀ X / N or Dᵀ D / N.
    fn moment(x: &Tensor) -> Vec<f64> {
        let gram = x.transpose(0, 1).unwrap().matmul(x).unwrap();
        numbers(&gram.scale(1.0 / x.shape()[0] as f64).unwrap())
    }
}

fn bare() -> LayerStep {
    let fisher = Fisher::Empirical;
    LayerStep { rate: 1.0, momentum: 0.0, kl_clip: None, fisher, ..LayerStep::default() }
}

/// (M + λ I)⁻¹ v
fn solved(matrix: &[f64], lambda: f64, v: &[f64]) -> Vec<f64> {
    let n = v.len();
    let mut damped = matrix.to_vec();
    damped.iter_mut().step_by(n + 1).for_each(|x| *x += lambda);
    linalg::solve(&damped, n, v, 1).unwrap()
}

#[test]
fn with_one_example_ekfac_solves_with_the_exact_block() {
    let seen = Seen::new(1, 4, 3);
    let expected = solved(&seen.block(), 0.3, &numbers(&seen.gradient()));
    let mut weight = Parameter::new(Tensor::zeros([3, 4], DType::F64));
    let config = EkfacConfig { step: bare(), damping: 0.3, ..EkfacConfig::default() };
    let got = seen.step(&mut Layerwise::new(config).unwrap(), &mut weight);
    assert_close(&got, &expected, 1e-11, "ekfac");
}

#[test]
fn a_basis_is_renewed_once_it_is_stale_and_not_before() {
    let (same, other) = (Seen::new(7, 4, 3), Seen { x: noise([7, 4], 11), d: noise([7, 3], 12) });
    for (limit, renewed) in [(0.05, true), (0.999, false)] {
        let basis_stale = Some(limit);
        let config =
            EkfacConfig { step: bare(), decay: 0.0, basis_stale, ..EkfacConfig::default() };
        let mut ekfac = Layerwise::new(config).unwrap();
        let mut weight = Parameter::new(Tensor::zeros([3, 4], DType::F64));
        let mut looks = |seen: &Seen| {
            seen.step(&mut ekfac, &mut weight);
            let of = |name: &str| ekfac.kept(&weight, name).unwrap();
            (of("age")[0], staleness(of("a"), of("u"), 4).unwrap())
        };
        assert_eq!(looks(&same).0, 1.0);
        let (age, stale) = looks(&same);
        assert!(age == 2.0 && stale < 1e-7, "the same batch: {age} {stale}");
        let (age, stale) = looks(&other);
        assert_eq!((age == 1.0, stale < 1e-7), (renewed, renewed), "{limit}: {age} {stale}");
    }
    for limit in [0.0, 1.0, f64::NAN] {
        let config = EkfacConfig { basis_stale: Some(limit), ..EkfacConfig::default() };
        assert!(Layerwise::new(config).is_err());
    }
}

#[test]
fn ekfac_is_nearer_to_the_exact_block_than_kfac() {
    let seen = Seen::new(7, 4, 3);
    let mut weight = Parameter::new(Tensor::zeros([3, 4], DType::F64));
    let config = EkfacConfig { step: bare(), ..EkfacConfig::default() };
    let mut ekfac = Layerwise::new(config).unwrap();
    seen.step(&mut ekfac, &mut weight);
    let of = |name: &str| ekfac.kept(&weight, name).unwrap().to_vec();
    let (u, v, s) = (of("u"), of("v"), of("s"));
    let (a, g) = (of("a"), of("g"));
    let (n, m) = (4, 3);
    let entry = |weights: &dyn Fn(usize, usize) -> f64, r: usize, c: usize| -> f64 {
        let (i, j, k, l) = (r / n, r % n, c / n, c % n);
        (0..m * n)
            .map(|q| {
                let (p, q) = (q / n, q % n);
                weights(p, q) * v[i * m + p] * v[k * m + p] * u[j * n + q] * u[l * n + q]
            })
            .sum()
    };
    let block = seen.block();
    let distance = |weights: &dyn Fn(usize, usize) -> f64| -> f64 {
        let size = m * n;
        let error = |at: usize| (block[at] - entry(weights, at / size, at % size)).powi(2);
        (0..size * size).map(error).sum::<f64>().sqrt()
    };
    let (wa, wg) = (
        linalg::symmetric_eigen(&a, n).unwrap().values,
        linalg::symmetric_eigen(&g, m).unwrap().values,
    );
    let corrected = distance(&|p, q| s[p * n + q]);
    let kfac = distance(&|p, q| wg[p] * wa[q]);
    assert!(corrected < 0.99 * kfac, "{corrected} and {kfac}");
}

#[test]
fn tnt_is_exact_for_one_example_and_has_the_trace_of_the_block_for_many() {
    let one = Seen::new(1, 4, 3);
    let mut weight = Parameter::new(Tensor::zeros([3, 4], DType::F64));
    let config = TntConfig { step: bare(), damping: 1e-4, ..TntConfig::default() };
    let mut tnt = Layerwise::new(config).unwrap();
    let direction = one.step(&mut tnt, &mut weight);
    // U and V have the eigenvalue √s = ‖d aᵀ‖ along the gradient; π = √(m/n).
    let g = numbers(&one.gradient());
    let root = g.iter().map(|g| g * g).sum::<f64>().sqrt();
    let (pi, lambda) = ((3.0_f64 / 4.0).sqrt(), 1e-4_f64.sqrt());
    let scale = 1.0 / ((root + lambda / pi) * (root + lambda * pi));
    let expected: Vec<f64> = g.iter().map(|g| g * scale).collect();
    assert_close(&direction, &expected, 1e-9, "one example");

    let many = Seen::new(9, 4, 3);
    let mut weight = Parameter::new(Tensor::zeros([3, 4], DType::F64));
    let mut tnt = Layerwise::new(config).unwrap();
    many.step(&mut tnt, &mut weight);
    let trace = |x: &[f64], n: usize| x.iter().step_by(n + 1).sum::<f64>();
    let total = trace(&many.block(), 12);
    for (name, n) in [("dd", 3), ("ddt", 4)] {
        let got = trace(tnt.kept(&weight, name).unwrap(), n);
        assert!((got - total).abs() < 1e-12 * total, "{name}: {got} and {total}");
    }
}

#[test]
fn ikfac_comes_to_the_inverses_that_kfac_computes() {
    let seen = Seen::new(30, 4, 3);
    let mut weight = Parameter::new(Tensor::zeros([3, 4], DType::F64));
    let step = LayerStep { rate: 0.0, learn_every: 1, ..bare() };
    let config =
        SingdConfig { step, damping: 0.1, root_rate: 0.2, root_momentum: 0.0, untied: true };
    let mut ikfac = Layerwise::new(config).unwrap();
    for _ in 0..400 {
        seen.step(&mut ikfac, &mut weight);
    }
    for (name, moment, n) in [("k", Seen::moment(&seen.x), 4), ("c", Seen::moment(&seen.d), 3)] {
        let root = ikfac.kept(&weight, name).unwrap();
        let entry =
            |at: usize| (0..n).map(|k| root[at / n * n + k] * root[at % n * n + k]).sum::<f64>();
        let product: Vec<f64> = (0..n * n).map(entry).collect();
        let mut damped = moment;
        damped.iter_mut().step_by(n + 1).for_each(|x| *x += 0.1);
        let inverse = linalg::cholesky_inverse(&damped, n).unwrap();
        assert_close(&product, &inverse, 1e-9, name);
    }
}

/// Gradients L Z R with normal Z, whose covariance is LLᵀ ⊗ RRᵀ.
fn kronecker_gradients(count: u64) -> (Tensor, Tensor, impl Iterator<Item = Tensor>) {
    let l = Tensor::from_slice(&[2.0, 0.0, 1.0, 0.5], [2, 2]).unwrap();
    let r = Tensor::from_slice(&[1.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.3, 0.0, 2.0], [3, 3]).unwrap();
    let (left, right) = (l.clone(), r.clone());
    let draws = (0..count)
        .map(move |i| left.matmul(&noise([2, 3], 1000 + i)).unwrap().matmul(&right).unwrap());
    (l, r, draws)
}

fn feed(optimizer: &mut dyn Optimizer, weight: &mut Parameter, g: &Tensor) {
    let mut grads = Gradients::default();
    grads.set(weight, g.clone());
    optimizer.step(weight, &grads).unwrap();
}

#[test]
fn kl_shampoo_finds_the_factors_of_a_kronecker_covariance() {
    let (l, r, draws) = kronecker_gradients(4000);
    let mut weight = Parameter::new(Tensor::zeros([2, 3], DType::F64));
    let config = KlShampooConfig { rate: 0.0, beta2: 0.998, ..KlShampooConfig::default() };
    let mut optimizer = KlShampoo::new(config).unwrap();
    for g in draws {
        feed(&mut optimizer, &mut weight, &g);
    }
    let kept = |name: &str| numbers(optimizer.kept(&weight, name).unwrap());
    let (gl, gr) = (kept("l"), kept("r"));
    let square = |x: &Tensor, y: &Tensor| numbers(&x.matmul(y).unwrap());
    let tl = square(&l, &l.transpose(0, 1).unwrap());
    let tr = square(&r.transpose(0, 1).unwrap(), &r);
    let product = |a: &[f64], b: &[f64]| -> Vec<f64> {
        a.iter().flat_map(|a| b.iter().map(move |b| a * b)).collect()
    };
    // About 500 gradients are in the averages: errors of a tenth.
    assert_close(&product(&gl, &gr), &product(&tl, &tr), 0.15, "L ⊗ R");
}

#[test]
fn psgd_whitens_gradients_of_a_kronecker_covariance() {
    let (_, _, draws) = kronecker_gradients(6000);
    let mut weight = Parameter::new(Tensor::zeros([2, 3], DType::F64));
    let config =
        PsgdConfig { rate: 1.0, beta: 0.0, warm_up: 6000, fit_rate: 0.03, ..PsgdConfig::default() };
    let mut optimizer = Psgd::new(config).unwrap();
    let (mut sum, mut raw, mut count) = (vec![0.0; 36], vec![0.0; 36], 0.0);
    for (t, g) in draws.enumerate() {
        let before = numbers(weight.value());
        feed(&mut optimizer, &mut weight, &g);
        if t >= 3000 {
            let step: Vec<f64> =
                before.iter().zip(numbers(weight.value())).map(|(a, b)| a - b).collect();
            let add = |sum: &mut [f64], x: &[f64]| {
                for (row, a) in sum.chunks_mut(6).zip(x) {
                    row.iter_mut().zip(x).for_each(|(s, b)| *s += a * b);
                }
            };
            add(&mut sum, &step);
            add(&mut raw, &numbers(&g));
            count += 1.0;
        }
    }
    // How far a covariance is from a multiple of the identity.
    let spread = |sum: &[f64]| {
        let scaled: Vec<f64> = sum.iter().map(|s| s / count).collect();
        let values = linalg::symmetric_eigen(&scaled, 6).unwrap().values;
        values[5] / values[0]
    };
    let (before, after) = (spread(&raw), spread(&sum));
    assert!(before > 50.0 && after < 4.0, "{before} becomes {after}");
}

struct Linear {
    weight: Parameter,
    bias: Parameter,
}
parameters!(Linear { weight, bias });

impl Linear {
    fn zeros(n: usize, m: usize) -> Self {
        let zeros = |shape: &[usize]| {
            Parameter::new(Tensor::zeros(engine::Shape::new(shape).unwrap(), DType::F64))
        };
        Self { weight: zeros(&[m, n]), bias: zeros(&[m]) }
    }

    fn forward(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        tape.input(x.clone()).linear(&tape.bind(&self.weight), Some(&tape.bind(&self.bias)))
    }
}

/// A least-squares problem without noise: the loss at its solution is 0.
fn least_squares() -> (Tensor, Mse) {
    let x = noise([20, 3], 1);
    let target = x.matmul(&noise([3, 2], 2)).unwrap().add(&noise([2], 3)).unwrap();
    (x, Mse::half_sum(&target))
}

#[test]
fn a_quadratic_is_solved_in_one_step_by_newton_and_hessian_free() {
    let (x, loss) = least_squares();
    let forward = |layer: &Linear, tape: &Tape| layer.forward(tape, &x);
    let damping = 1e-12;
    let stop = optim::curvature::Stop { iterations: 30, residual: 1e-13, progress: 0.0 };
    let all: [Box<dyn Optimizer>; 3] = [
        Box::new(Newton::new(NewtonConfig { damping, ..NewtonConfig::default() }).unwrap()),
        Box::new(Newton::new(NewtonConfig { damping, ..NewtonConfig::saddle_free() }).unwrap()),
        Box::new(
            HessianFree::new(HessianFreeConfig { damping, stop, ..HessianFreeConfig::default() })
                .unwrap(),
        ),
    ];
    for mut optimizer in all {
        let mut layer = Linear::zeros(3, 2);
        let before = optimizer.minimize(&mut Batch::new(&mut layer, forward, &loss)).unwrap();
        let after = optimizer.minimize(&mut Batch::new(&mut layer, forward, &loss)).unwrap();
        assert!(before > 0.1 && after < 1e-18, "{}: {before} to {after}", optimizer.name());
    }
}

#[test]
fn lbfgs_ends_on_a_quadratic_after_as_many_steps_as_there_are_numbers() {
    let (x, loss) = least_squares();
    let forward = |layer: &Linear, tape: &Tape| layer.forward(tape, &x);
    let wolfe = optim::Wolfe { curvature: 1e-3, decrease: 1e-4, evaluations: 50 };
    let mut optimizer = Lbfgs::new(LbfgsConfig { wolfe, ..LbfgsConfig::default() }).unwrap();
    let mut layer = Linear::zeros(3, 2);
    let mut losses = Vec::new();
    for _ in 0..14 {
        losses.push(optimizer.minimize(&mut Batch::new(&mut layer, forward, &loss)).unwrap());
    }
    // 8 numbers, and a search that is nearly exact.
    assert!(losses[13] < 1e-12 * losses[0], "{losses:?}");
}

#[test]
fn sam_steps_from_here_with_the_gradient_from_there() {
    struct Bowl;
    impl Likelihood for Bowl {
        fn terms(&self) -> usize {
            1
        }
        fn nll(&self, x: &Var) -> Result<Var> {
            x.mul(x)?.sum_all()?.scale(0.5)
        }
        fn sampled_seed(&self, x: &Tensor, _: &mut Rng) -> Result<Tensor> {
            Ok(x.clone())
        }
        fn exact_seeds(&self, x: &Tensor) -> Result<Vec<Tensor>> {
            Ok(vec![Tensor::ones(*x.shape(), x.dtype())])
        }
    }
    let sgd = || Box::new(Sgd::new(SgdConfig { rate: 0.1, ..SgdConfig::default() }).unwrap());
    let step = |config: SamConfig| {
        let mut point = Parameter::new(Tensor::from_slice(&[3.0, -4.0], [2]).unwrap());
        let mut sam = Sam::new(config, sgd()).unwrap();
        let forward = |point: &Parameter, tape: &Tape| Ok(tape.bind(point));
        let loss = sam.minimize(&mut Batch::new(&mut point, forward, &Bowl)).unwrap();
        assert_eq!(loss, 12.5);
        numbers(point.value())
    };
    // At θ (1 + ρ/‖θ‖) the gradient is that point.
    let got = step(SamConfig { radius: 0.5, ..SamConfig::default() });
    assert_close(&got, &[3.0 - 0.1 * 3.3, -4.0 + 0.1 * 4.4], 1e-14, "sam");
    let t = [3.5_f64, 4.5];
    let g = [t[0] * 3.0, -t[1] * 4.0];
    let length = (g[0] * g[0] + g[1] * g[1]).sqrt();
    let away = [0.5 * t[0] * g[0] / length, 0.5 * t[1] * g[1] / length];
    let got = step(SamConfig { radius: 0.5, adaptive: Some(0.5), ..SamConfig::default() });
    let expected = [3.0 - 0.1 * (3.0 + away[0]), -4.0 - 0.1 * (-4.0 + away[1])];
    assert_close(&got, &expected, 1e-14, "asam");
    assert!(
        Sam::new(SamConfig::default(), Box::new(Newton::new(NewtonConfig::default()).unwrap()))
            .is_err()
    );
}

#[test]
fn asam_scales_weights_and_leaves_biases_as_sam_has_them_unless_it_is_asked_to() {
    let (x, loss) = least_squares();
    let forward = |layer: &Linear, tape: &Tape| layer.forward(tape, &x);
    let start = || {
        let mut layer = Linear::zeros(3, 2);
        *layer.weight.value_mut() = noise([2, 3], 5);
        *layer.bias.value_mut() = noise([2], 6);
        layer
    };
    let gradient = |layer: &Linear| {
        let tape = Tape::new();
        let nll = loss.nll(&layer.forward(&tape, &x).unwrap()).unwrap();
        let grads = tape.backward(&nll).unwrap();
        [&layer.weight, &layer.bias].map(|p| numbers(grads.of(p).unwrap()))
    };
    for scale_biases in [false, true] {
        // By the definition: ε = ρ T² ∇L/‖T ∇L‖, and a step of SGD with the gradient there.
        let mut there = start();
        let (here, t) = (gradient(&there), |x: &f64| x.abs() + 0.1);
        let values = [&there.weight, &there.bias].map(|p| numbers(p.value()));
        let scales = [0, 1].map(|of: usize| {
            let one = of == 1 && !scale_biases;
            values[of].iter().map(|x| if one { 1.0 } else { t(x) }).collect::<Vec<f64>>()
        });
        let squares = |of: usize| here[of].iter().zip(&scales[of]).map(|(g, t)| (g * t).powi(2));
        let length = squares(0).chain(squares(1)).sum::<f64>().sqrt();
        for (of, parameter) in [&mut there.weight, &mut there.bias].into_iter().enumerate() {
            let entries = values[of].iter().zip(&here[of]).zip(&scales[of]);
            let moved: Vec<f64> = entries.map(|((x, g), t)| x + 0.3 * t * t * g / length).collect();
            let shape = *parameter.value().shape();
            *parameter.value_mut() = Tensor::from_vec(moved, shape).unwrap();
        }
        let from_there = gradient(&there);
        // ASAM itself.
        let mut layer = start();
        let config = SamConfig { radius: 0.3, adaptive: Some(0.1), scale_biases };
        let sgd = Sgd::new(SgdConfig { rate: 0.1, ..SgdConfig::default() }).unwrap();
        let mut asam = Sam::new(config, Box::new(sgd)).unwrap();
        asam.minimize(&mut Batch::new(&mut layer, forward, &loss)).unwrap();
        for (of, parameter) in [&layer.weight, &layer.bias].into_iter().enumerate() {
            let entries = values[of].iter().zip(&from_there[of]);
            let expected: Vec<f64> = entries.map(|(x, g)| x - 0.1 * g).collect();
            assert_close(&numbers(parameter.value()), &expected, 1e-13, "asam");
        }
    }
}

/// Two layers with a tanh between them.
struct Net {
    first: Linear,
    second: Linear,
}
parameters!(Net { first, second });

impl Net {
    fn new() -> Self {
        let layer = |n, m, seed| Linear {
            weight: Parameter::new(noise([m, n], seed)),
            bias: Parameter::new(noise([m], seed + 1)),
        };
        Self { first: layer(3, 4, 10), second: layer(4, 3, 20) }
    }

    fn forward(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let hidden = self.first.forward(tape, x)?.tanh()?;
        hidden.linear(&tape.bind(&self.second.weight), Some(&tape.bind(&self.second.bias)))
    }
}

#[test]
fn products_are_symmetric_and_the_gauss_newton_matrix_is_not_negative() {
    let (net, x) = (Net::new(), noise([6, 3], 4));
    let loss = CrossEntropy::new(&Tensor::from_slice(&[0_i64, 1, 2, 2, 1, 0], [6]).unwrap());
    let tape = Tape::new();
    let outputs = net.forward(&tape, &x).unwrap();
    let nll = loss.nll(&outputs).unwrap();
    let size = net.parameter_count();
    let (u, v) = (numbers(&noise([size], 7)), numbers(&noise([size], 8)));
    let dot = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    let hessian = Hessian::new(&tape, &nll).unwrap();
    let ggn = GaussNewton::new(&tape, &outputs, &loss).unwrap();
    let (hu, hv) = (hessian.times(&net, &u).unwrap(), hessian.times(&net, &v).unwrap());
    let (cu, cv) = (ggn.times(&net, &u).unwrap(), ggn.times(&net, &v).unwrap());
    assert!((dot(&u, &hv) - dot(&v, &hu)).abs() < 1e-12);
    assert!((dot(&u, &cv) - dot(&v, &cu)).abs() < 1e-12);
    let (ru, rv) = (ggn.root_times(&net, &u).unwrap(), ggn.root_times(&net, &v).unwrap());
    assert!((dot(&ru, &rv) - dot(&u, &cv)).abs() < 1e-12, "roots multiply to the product");
    assert!(dot(&u, &cu) > 0.0);
    assert!(hessian.times(&net, &u[1..]).is_err());
}

#[test]
fn both_estimates_of_the_diagonal_are_right_on_average() {
    let (mut net, x) = (Net::new(), noise([6, 3], 4));
    let loss = CrossEntropy::new(&Tensor::from_slice(&[0_i64, 1, 2, 2, 1, 0], [6]).unwrap());
    let size = net.parameter_count();
    let unit = |i: usize| (0..size).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
    let tape = Tape::new();
    let outputs = net.forward(&tape, &x).unwrap();
    let nll = loss.nll(&outputs).unwrap();
    let hessian = Hessian::new(&tape, &nll).unwrap();
    let ggn = GaussNewton::new(&tape, &outputs, &loss).unwrap();
    let diagonal = |of: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<f64> {
        (0..size).map(|i| of(&unit(i))[i]).collect()
    };
    let cases = [
        ("sophia-h", diagonal(&|v| hessian.times(&net, v).unwrap())),
        ("sophia", diagonal(&|v| ggn.times(&net, v).unwrap())),
    ];
    for (name, expected) in cases {
        let mut optimizer = optim::build(name, Some(0.0)).unwrap();
        // They count as micro-batches of one step.
        for _ in 0..3000 {
            let tape = Tape::new();
            let outputs = net.forward(&tape, &x).unwrap();
            backward(&tape, &outputs, &loss, &mut *optimizer).unwrap();
        }
        let mut zeros = Gradients::default();
        for (_, p) in net.parameters() {
            zeros.set(p, Tensor::zeros(*p.value().shape(), DType::F64));
        }
        optimizer.step(&mut net, &zeros).unwrap();
        let state = optimizer.state(&net).unwrap();
        let mut mean = Vec::new();
        for (path, _) in net.parameters() {
            // h = (1 − β₂) ĥ after one estimate.
            let h = numbers(&state.tensors[&format!("{path}/h")]);
            mean.extend(h.iter().map(|h| h / (1.0 - 0.99)));
        }
        let scale = expected.iter().fold(0.0_f64, |s, x| s.max(x.abs()));
        for (got, expected) in mean.iter().zip(&expected) {
            assert!((got - expected).abs() < 0.1 * scale, "{name}: {got} and {expected}");
        }
    }
}
