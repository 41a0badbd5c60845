//! Small models with every kind of layer, and the way from a batch to a step.

use engine::parameter::{Member, MemberMut};
use engine::{
    DType, Geometry, Likelihood, Parameter, Parameters, Result, Rng, Tape, Tensor, Var, Window,
    parameters,
};
use nn::CrossEntropy;
use optim::{AdaFisher, AdaFisherConfig, Optimizer, backward};

pub(crate) const DTYPE: DType = DType::F64;

pub(crate) fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DTYPE, &mut Rng::new(seed))
}

fn parameter<const N: usize>(shape: [usize; N], seed: u64) -> Parameter {
    Parameter::new(noise(shape, seed).scale(0.5).unwrap())
}

pub(crate) trait Forward: Parameters {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var>;
}

/// A grouped convolution with bias, batch norm, a dense layer.
pub(crate) struct Vision {
    kernel: Parameter,
    kernel_bias: Parameter,
    scale: Parameter,
    shift: Parameter,
    pub(crate) weight: Parameter,
    bias: Parameter,
}
parameters!(Vision { kernel, kernel_bias, scale, shift, weight, bias });

impl Vision {
    pub(crate) fn new() -> Self {
        Self {
            kernel: parameter([4, 1, 3, 3], 1),
            kernel_bias: parameter([4], 2),
            scale: parameter([4], 3),
            shift: parameter([4], 4),
            weight: parameter([3, 36], 5),
            bias: parameter([3], 6),
        }
    }

    pub(crate) const fn kernel(&self) -> &Parameter {
        &self.kernel
    }

    pub(crate) const GEOMETRY: Geometry = Geometry {
        window: Window { kernel: (3, 3), stride: (2, 2), padding: (1, 1), dilation: (1, 1) },
        groups: 2,
    };
}

impl Forward for Vision {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let bias = tape.bind(&self.kernel_bias);
        let y =
            tape.input(x.clone()).conv2d(&tape.bind(&self.kernel), Some(&bias), Self::GEOMETRY)?;
        let (y, ..) = y.batch_norm(&tape.bind(&self.scale), &tape.bind(&self.shift), 1e-5)?;
        let y = y.relu()?.flatten(1)?;
        y.linear(&tape.bind(&self.weight), Some(&tape.bind(&self.bias)))
    }
}

/// A batch of images and labels for [`Vision`].
pub(crate) fn images(n: usize, seed: u64) -> (Tensor, Tensor) {
    let labels = Tensor::random_indices([n], 3, &mut Rng::new(seed + 50)).unwrap();
    (noise([n, 2, 6, 6], seed), labels)
}

/// A group norm of channels, an RMS norm of all features, a dense layer. It takes [`images`].
pub(crate) struct Normed {
    scale: Parameter,
    shift: Parameter,
    rms: Parameter,
    weight: Parameter,
}
parameters!(Normed { scale, shift, rms, weight });

impl Normed {
    pub(crate) fn new() -> Self {
        Self {
            scale: parameter([2], 1),
            shift: parameter([2], 2),
            rms: parameter([72], 3),
            weight: parameter([3, 72], 4),
        }
    }
}

impl Forward for Normed {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let (scale, shift) = (tape.bind(&self.scale), tape.bind(&self.shift));
        let y = tape.input(x.clone()).group_norm(2, Some(&scale), Some(&shift), 1e-5)?;
        let y = y.relu()?.flatten(1)?.rms_norm(Some(&tape.bind(&self.rms)), 1e-5)?;
        y.linear(&tape.bind(&self.weight), None)
    }
}

/// A table, a bare position parameter, layer norm, a dense layer, and the table again as readout.
pub(crate) struct Tokens {
    pub(crate) table: Parameter,
    pub(crate) positions: Parameter,
    scale: Parameter,
    shift: Parameter,
    pub(crate) weight: Parameter,
    bias: Parameter,
    readout: Option<Parameter>,
}
parameters!(Tokens { table, positions, scale, shift, weight, bias, readout });

impl Tokens {
    pub(crate) fn tied() -> Self {
        Self {
            table: parameter([7, 5], 1),
            positions: parameter([4, 5], 2),
            scale: parameter([5], 3),
            shift: parameter([5], 4),
            weight: parameter([5, 5], 5),
            bias: parameter([5], 6),
            readout: None,
        }
    }

    pub(crate) fn untied() -> Self {
        Self { readout: Some(parameter([7, 5], 7)), ..Self::tied() }
    }
}

impl Forward for Tokens {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        let table = tape.bind(&self.table);
        let y = tape.input(x.clone()).embedding(&table)?.add(&tape.bind(&self.positions))?;
        let (scale, shift) = (tape.bind(&self.scale), tape.bind(&self.shift));
        let y = y.layer_norm(Some(&scale), Some(&shift), 1e-5)?;
        let y = y.linear(&tape.bind(&self.weight), Some(&tape.bind(&self.bias)))?.tanh()?;
        y.linear(&self.readout.as_ref().map_or(table, |readout| tape.bind(readout)), None)
    }
}

/// A batch of sequences and next tokens for [`Tokens`].
pub(crate) fn tokens(n: usize, seed: u64) -> (Tensor, Tensor) {
    let draw = |seed| Tensor::random_indices([n, 4], 7, &mut Rng::new(seed)).unwrap();
    (draw(seed), draw(seed + 50))
}

/// A model whose parameters are listed from the last to the first.
pub(crate) struct Reversed<M>(pub(crate) M);

impl<M: Parameters> Parameters for Reversed<M> {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        let mut all = Vec::new();
        self.0.collect(at, &mut all);
        out.extend(all.into_iter().rev());
    }

    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        let mut all = Vec::new();
        self.0.collect_mut(at, &mut all);
        out.extend(all.into_iter().rev());
    }
}

impl<M: Forward> Forward for Reversed<M> {
    fn logits(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        self.0.logits(tape, x)
    }
}

/// A loss in other units: `factor` times as large.
pub(crate) struct Scaled<L>(pub(crate) L, pub(crate) f64);

impl<L: Likelihood> Likelihood for Scaled<L> {
    fn terms(&self) -> usize {
        self.0.terms()
    }

    fn nll(&self, outputs: &Var) -> Result<Var> {
        self.0.nll(outputs)?.scale(self.1)
    }

    fn sampled_seed(&self, outputs: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        self.0.sampled_seed(outputs, rng)?.scale(self.1)
    }

    fn exact_seeds(&self, outputs: &Tensor) -> Result<Vec<Tensor>> {
        self.0.exact_seeds(outputs)?.iter().map(|seed| seed.scale(self.1)).collect()
    }
}

/// One batch: forward, backward, step.
pub(crate) fn step(model: &mut impl Forward, optimizer: &mut AdaFisher, (x, y): (Tensor, Tensor)) {
    step_on(model, optimizer, &x, &CrossEntropy::new(&y));
}

pub(crate) fn step_on(
    model: &mut impl Forward,
    optimizer: &mut AdaFisher,
    x: &Tensor,
    loss: &dyn Likelihood,
) {
    let tape = Tape::training(0);
    let logits = model.logits(&tape, x).unwrap();
    let pass = backward(&tape, &logits, loss, optimizer).unwrap();
    optimizer.step(model, &pass.gradients).unwrap();
}

pub(crate) fn adafisher(config: AdaFisherConfig) -> AdaFisher {
    AdaFisher::new(config).unwrap()
}

/// All values, in the order of their paths.
pub(crate) fn values(model: &impl Parameters) -> Vec<f64> {
    let mut all = model.parameters();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.iter().flat_map(|(_, p)| numbers(p.value())).collect()
}

pub(crate) fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().unwrap()
}

pub(crate) fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |s, x| s.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}, at {i}: {a} and {b}");
    }
}
