//! The models that every optimizer is tried on.

use engine::parameter::{Member, MemberMut};
use engine::{
    DType, Geometry, Parameter, Parameters, Result, Rng, Tape, Tensor, Var, Window, parameters,
};
use nn::CrossEntropy;
use optim::{Batch, Optimizer};

/// Two dense layers; the first is used twice.
pub(crate) struct Net {
    first: Parameter,
    first_bias: Parameter,
    pub(crate) second: Parameter,
    pub(crate) second_bias: Parameter,
}
parameters!(Net { first, first_bias, second, second_bias });

pub(crate) fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Tensor {
    Tensor::normal(shape, 0.0, 0.6, DType::F64, &mut Rng::new(seed))
}

impl Net {
    pub(crate) fn new(dtype: DType) -> Self {
        let parameter = |t: Tensor| Parameter::new(t.to_dtype(dtype).unwrap());
        Self {
            first: parameter(noise([4, 4], 1)),
            first_bias: parameter(noise([4], 2)),
            second: parameter(noise([3, 4], 3)),
            second_bias: parameter(noise([3], 4)),
        }
    }
}

pub(crate) trait Forward: Parameters {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var>;
}

impl Forward for Net {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let [w, b, v, c] = [&self.first, &self.first_bias, &self.second, &self.second_bias]
            .map(|parameter| tape.bind(parameter));
        let y = tape.input(x.clone()).linear(&w, Some(&b))?.tanh()?;
        y.linear(&w, Some(&b))?.tanh()?.linear(&v, Some(&c))
    }
}

/// The same model, its parameters listed from the last to the first.
pub(crate) struct Reversed(pub(crate) Net);

impl Parameters for Reversed {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        self.0.collect(at, out);
        out.reverse();
    }

    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        self.0.collect_mut(at, out);
        out.reverse();
    }
}

impl Forward for Reversed {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        self.0.logits(tape, x)
    }
}

/// Labels that follow from the input, so that there is something to learn.
pub(crate) fn batch(seed: u64, dtype: DType) -> (Tensor, Tensor) {
    let x = noise([24, 4], 100 + seed);
    let values = x.to_vec::<f64>().unwrap();
    let label = |row: &[f64]| i64::from(row[0] > 0.0) + i64::from(row[1] > row[2]);
    let labels: Vec<i64> = values.chunks(4).map(label).collect();
    (x.to_dtype(dtype).unwrap(), Tensor::from_vec(labels, [24]).unwrap())
}

/// One step; the loss before it.
pub(crate) fn step<M: Forward>(
    model: &mut M,
    optimizer: &mut dyn Optimizer,
    (x, y): &(Tensor, Tensor),
) -> f64 {
    let loss = CrossEntropy::new(y);
    let forward = |model: &M, tape: &Tape| model.logits(tape, x);
    optimizer.minimize(&mut Batch::new(model, forward, &loss).training(0)).unwrap()
}

pub(crate) fn values(model: &impl Parameters) -> Vec<f64> {
    let mut all = model.parameters();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.iter().flat_map(|(_, p)| p.value().to_f64_vec().unwrap()).collect()
}

pub(crate) fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Two layers of one unit each, and a first one that is dead: its ReLU never opens.
pub(crate) struct Thin {
    first: Parameter,
    first_bias: Parameter,
    second: Parameter,
    second_bias: Parameter,
    last: Parameter,
    last_bias: Parameter,
}
parameters!(Thin { first, first_bias, second, second_bias, last, last_bias });

impl Thin {
    pub(crate) fn new(first_bias: f64) -> Self {
        let parameter = |t: Tensor| Parameter::new(t.to_dtype(DType::F32).unwrap());
        Self {
            first: parameter(noise([1, 4], 1)),
            first_bias: parameter(Tensor::full([1], first_bias, DType::F64)),
            second: parameter(noise([1, 1], 3)),
            second_bias: parameter(noise([1], 4)),
            last: parameter(noise([3, 1], 5)),
            last_bias: parameter(noise([3], 6)),
        }
    }
}

impl Forward for Thin {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let [w, b, v, c, u, d] = [
            &self.first,
            &self.first_bias,
            &self.second,
            &self.second_bias,
            &self.last,
            &self.last_bias,
        ]
        .map(|parameter| tape.bind(parameter));
        let y = tape.input(x.clone()).linear(&w, Some(&b))?.relu()?;
        y.linear(&v, Some(&c))?.tanh()?.linear(&u, Some(&d))
    }
}

/// A convolution, a norm, an embedding and a layer: every kind of parameter there is.
pub(crate) struct Mixed {
    kernel: Parameter,
    kernel_bias: Parameter,
    scale: Parameter,
    shift: Parameter,
    table: Parameter,
    last: Parameter,
}
parameters!(Mixed { kernel, kernel_bias, scale, shift, table, last });

impl Mixed {
    pub(crate) fn new() -> Self {
        Self {
            kernel: Parameter::new(noise([2, 1, 2, 2], 1)),
            kernel_bias: Parameter::new(noise([2], 2)),
            scale: Parameter::new(Tensor::ones([2], DType::F64)),
            shift: Parameter::new(noise([2], 3)),
            table: Parameter::new(noise([5, 2], 4)),
            last: Parameter::new(noise([3, 2], 5)),
        }
    }
}

impl Forward for Mixed {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let n = x.shape()[0];
        let geometry = Geometry { window: Window::new((2, 2)), groups: 1 };
        let image = tape.input(x.reshape([n, 1, 2, 2])?);
        let (kernel, bias) = (tape.bind(&self.kernel), tape.bind(&self.kernel_bias));
        let seen = image.conv2d(&kernel, Some(&bias), geometry)?.tanh()?.flatten(1)?;
        let words: Vec<i64> = (0..n as i64).map(|i| i % 5).collect();
        let words = tape.input(Tensor::from_vec(words, [n])?).embedding(&tape.bind(&self.table))?;
        let (scale, shift) = (tape.bind(&self.scale), tape.bind(&self.shift));
        let both = seen.add(&words)?.layer_norm(Some(&scale), Some(&shift), 1e-2)?;
        both.linear(&tape.bind(&self.last), None)
    }
}

/// A table that is also the weight of the readout: two uses of different kinds.
pub(crate) struct Tied {
    pub(crate) table: Parameter,
    bias: Parameter,
}
parameters!(Tied { table, bias });

impl Tied {
    pub(crate) fn new() -> Self {
        Self { table: Parameter::new(noise([3, 4], 1)), bias: Parameter::new(noise([3], 2)) }
    }
}

impl Forward for Tied {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let words: Vec<i64> = (0..x.shape()[0] as i64).map(|i| i % 3).collect();
        let words = tape.input(Tensor::from_vec(words, [x.shape()[0]])?);
        let (table, bias) = (tape.bind(&self.table), tape.bind(&self.bias));
        let seen = tape.input(x.clone()).add(&words.embedding(&table)?)?.tanh()?;
        seen.linear(&table, Some(&bias))
    }
}
