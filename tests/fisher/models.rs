//! Small models and likelihoods, and the exact Fisher block of any of their parameters.

use engine::{
    DType, Likelihood, Parameter, Parameters, Result, Rng, Tape, Tensor, Var, parameters,
};
use optim::curvature::{Kronecker, KroneckerFactors, Share};
use optim::{CurvatureSource, Fisher, Optimizer};

/// The same sums in another order.
pub const REORDERED: f64 = 1e-11;

pub fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut Rng::new(seed))
}

pub fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().unwrap()
}

pub fn tensor<const N: usize>(values: &[f64], shape: [usize; N]) -> Tensor {
    Tensor::from_slice(values, shape).unwrap()
}

pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0_f64, |s, x| s.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}, at {i}: {a} and {b}");
    }
}

/// One dense layer.
#[derive(Debug)]
pub struct Dense {
    pub weight: Parameter,
    pub bias: Option<Parameter>,
}
parameters!(Dense { weight, bias });

impl Dense {
    pub fn new(inputs: usize, outputs: usize, bias: bool, seed: u64) -> Self {
        Self {
            weight: Parameter::new(noise([outputs, inputs], seed)),
            bias: bias.then(|| Parameter::new(noise([outputs], seed + 1000))),
        }
    }

    pub fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let bias = self.bias.as_ref().map(|bias| tape.bind(bias));
        x.linear(&tape.bind(&self.weight), bias.as_ref())
    }
}

/// Dense layers with an activation between them.
#[derive(Debug)]
pub struct Net {
    pub layers: Vec<Dense>,
    pub activation: fn(&Var) -> Result<Var>,
}
parameters!(Net { layers });

pub fn identity(x: &Var) -> Result<Var> {
    Ok(x.clone())
}

pub fn tanh(x: &Var) -> Result<Var> {
    x.tanh()
}

impl Net {
    pub fn new(sizes: &[usize], activation: fn(&Var) -> Result<Var>) -> Self {
        let layer = |(i, w): (usize, &[usize])| Dense::new(w[0], w[1], i != 1, 7 + i as u64);
        Self { layers: sizes.windows(2).enumerate().map(layer).collect(), activation }
    }

    pub fn forward(&self, x: &Var) -> Result<Var> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&if i > 0 { (self.activation)(&x)? } else { x })?;
        }
        Ok(x)
    }
}

/// ½ |y − t|², averaged over rows: minus the log-likelihood of a normal distribution around y.
pub struct Squared(pub Tensor);

impl Likelihood for Squared {
    fn terms(&self) -> usize {
        self.0.shape()[0]
    }
    fn nll(&self, outputs: &Var) -> Result<Var> {
        let error = outputs.sub(&Var::constant(&self.0))?;
        error.mul(&error)?.sum_all()?.scale(0.5 / self.terms() as f64)
    }
    fn sampled_seed(&self, outputs: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        Tensor::normal(*outputs.shape(), 0.0, 1.0, outputs.dtype(), rng)
            .scale(1.0 / self.terms() as f64)
    }
    fn exact_seeds(&self, outputs: &Tensor) -> Result<Vec<Tensor>> {
        let classes = outputs.shape()[1];
        let column = |c: usize| move |i: usize| if i % classes == c { 1.0 } else { 0.0 };
        let seed = |c| Tensor::from_fn(*outputs.shape(), outputs.dtype(), column(c));
        (0..classes).map(|c| seed(c).scale(1.0 / self.terms() as f64)).collect()
    }
}

/// Softmax cross-entropy, averaged over rows.
pub struct Softmax(pub Vec<i64>);

impl Softmax {
    pub fn labels(n: usize, classes: usize) -> Self {
        Self((0..n).map(|i| ((i * 5 + 1) % classes) as i64).collect())
    }

    /// √wᵢ (p − e_label) / N for each row.
    fn residual(p: &Tensor, label: impl Fn(usize, &[f64]) -> (usize, f64)) -> Tensor {
        let (n, classes) = (p.shape()[0], p.shape()[1]);
        let mut out = numbers(p);
        for (i, row) in out.chunks_exact_mut(classes).enumerate() {
            let (label, weight) = label(i, row);
            row[label] -= 1.0;
            row.iter_mut().for_each(|x| *x *= weight.sqrt() / n as f64);
        }
        tensor(&out, [n, classes]).to_dtype(p.dtype()).unwrap()
    }
}

impl Likelihood for Softmax {
    fn terms(&self) -> usize {
        self.0.len()
    }
    fn nll(&self, outputs: &Var) -> Result<Var> {
        let labels = Tensor::from_slice(&self.0, [self.0.len()])?;
        outputs.cross_entropy(&Var::constant(&labels))
    }
    fn sampled_seed(&self, outputs: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let p = outputs.softmax(-1)?;
        let uniform = numbers(&Tensor::uniform([self.0.len()], 0.0, 1.0, DType::F64, rng));
        Ok(Self::residual(&p, |i, row| {
            let mut left = uniform[i];
            let label = row.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            (label.unwrap_or(row.len() - 1), 1.0)
        }))
    }
    fn exact_seeds(&self, outputs: &Tensor) -> Result<Vec<Tensor>> {
        let p = outputs.softmax(-1)?;
        let classes = p.shape()[1];
        Ok((0..classes).map(|c| Self::residual(&p, |_, row| (c, row[c]))).collect())
    }
}

/// Observes one batch as `optim::backward` does.
pub fn observe(
    factors: &mut KroneckerFactors,
    loss: &dyn Likelihood,
    x: &Tensor,
    forward: impl Fn(&Var) -> Result<Var>,
) {
    let tape = Tape::new();
    let y = forward(&tape.input(x.clone())).unwrap();
    let values = y.value();
    let seeds = match factors.fisher() {
        Fisher::Empirical => {
            tape.backward_observed(&loss.nll(&y).unwrap(), factors).unwrap();
            Vec::new()
        }
        Fisher::Exact => loss.exact_seeds(&values).unwrap(),
        Fisher::Sampled { draws } => (0..draws)
            .map(|_| loss.sampled_seed(&values, factors.rng().unwrap()).unwrap())
            .collect(),
    };
    for (i, seed) in seeds.into_iter().enumerate() {
        factors.begin_sweep(i);
        tape.sweep(&y, seed, factors).unwrap();
    }
    factors.finish(loss.terms()).unwrap();
}

/// The factors of one batch.
pub fn factors(
    fisher: Fisher,
    loss: &dyn Likelihood,
    x: &Tensor,
    forward: impl Fn(&Var) -> Result<Var>,
) -> KroneckerFactors {
    let mut factors = KroneckerFactors::new(fisher, Share::Expand);
    observe(&mut factors, loss, x, forward);
    factors.fold().unwrap();
    factors
}

/// One step of training.
pub fn step(
    optimizer: &mut dyn Optimizer,
    model: &mut dyn Parameters,
    loss: &dyn Likelihood,
    tape: &Tape,
    y: &Var,
) -> Result<f64> {
    let pass = optim::backward(tape, y, loss, optimizer)?;
    optimizer.step(model, &pass.gradients)?;
    pass.loss.item()
}

/// G ⊗ A, entry by entry.
pub fn kronecker(block: &Kronecker) -> Vec<f64> {
    let (n, m) = (block.inputs(), block.outputs());
    let size = n * m;
    let entry = |k: usize| {
        let (row, col) = (k / size, k % size);
        block.g[row / n * m + col / n] * block.a[row % n * n + col % n]
    };
    (0..size * size).map(entry).collect()
}

/// The exact block of [W | b]: 1/N Σₙ Jₙᵀ Hₙ Jₙ, with Jₙ from one backward pass for each output and H
/// the Hessian of a term with respect to its outputs.
pub fn exact_block(
    layer: &Dense,
    x: &Tensor,
    hessian: impl Fn(&[f64]) -> Vec<f64>,
    forward: impl Fn(&Var) -> Result<Var>,
) -> Vec<f64> {
    let (m, n) = (layer.weight.value().shape()[0], layer.weight.value().shape()[1]);
    let size = m * (n + usize::from(layer.bias.is_some()));
    let tape = Tape::new();
    let y = forward(&tape.input(x.clone())).unwrap();
    let (terms, classes) = (y.shape()[0], y.shape()[1]);
    let flat = y.reshape([terms * classes]).unwrap();
    let jacobian: Vec<Vec<f64>> = (0..terms * classes)
        .map(|i| {
            let gradients =
                tape.backward(&flat.narrow(0, i, 1).unwrap().sum_all().unwrap()).unwrap();
            let w = numbers(gradients.of(&layer.weight).unwrap());
            let b = layer.bias.as_ref().map(|b| numbers(gradients.of(b).unwrap()));
            let b = b.unwrap_or_default();
            (0..m)
                .flat_map(|o| {
                    w[o * n..(o + 1) * n].iter().chain(b.get(o)).copied().collect::<Vec<_>>()
                })
                .collect()
        })
        .collect();
    let mut block = vec![0.0; size * size];
    for (row, outputs) in numbers(&y.value()).chunks_exact(classes).enumerate() {
        let h = hessian(outputs);
        let j = &jacobian[row * classes..][..classes];
        for (at, block) in block.iter_mut().enumerate() {
            let (p, q) = (at / size, at % size);
            for (c, d) in (0..classes * classes).map(|k| (k / classes, k % classes)) {
                *block += j[c][p] * h[c * classes + d] * j[d][q] / terms as f64;
            }
        }
    }
    block
}

/// The Hessian of ½|y − t|².
pub fn identity_hessian(outputs: &[f64]) -> Vec<f64> {
    let n = outputs.len();
    (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect()
}

/// diag(p) − p pᵀ
pub fn softmax_hessian(outputs: &[f64]) -> Vec<f64> {
    let total: f64 = outputs.iter().map(|y| y.exp()).sum();
    let p: Vec<f64> = outputs.iter().map(|y| y.exp() / total).collect();
    let n = p.len();
    let entry = |(i, j): (usize, usize)| if i == j { p[i] - p[i] * p[i] } else { -p[i] * p[j] };
    (0..n * n).map(|k| entry((k / n, k % n))).collect()
}
