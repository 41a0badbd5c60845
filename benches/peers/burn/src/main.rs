//! burn's side of the comparison, on its backend `flex`: one line of JSON a case.
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear,
    LinearConfig, PaddingConfig2d,
};
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::{gelu_approximate, relu, softmax};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use peers::{Args, report};
use std::convert::Infallible;

fn device() -> Device {
    Device::flex()
}

fn randn<const D: usize>(shape: [usize; D], d: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), d)
}

/// Times what cannot fail, the device awaited.
fn time(a: &Args, warm: usize, mut f: impl FnMut()) -> Vec<f64> {
    let step = || {
        f();
        device().sync().unwrap();
        Ok::<(), Infallible>(())
    };
    let Ok(times) = a.time(warm, step);
    times
}

fn matmul(a: &Args, case: &str, m: usize, k: usize, n: usize) {
    let d = device();
    let (x, y) = (randn([m, k], &d), randn([k, n], &d));
    report(case, time(a, 10, || drop(x.clone().matmul(y.clone()))), &[]);
}

fn elementwise(a: &Args, case: &str) {
    let n = 16 * 1024 * 1024;
    let d = device();
    let (x, y) = (randn([n], &d), randn([n], &d));
    let times = time(a, 3, || match case {
        "add_16m" => drop(x.clone() + y.clone()),
        "relu_16m" => drop(relu(x.clone())),
        _ => {
            let _: f32 = x.clone().sum().into_scalar();
        }
    });
    report(case, times, &[]);
}

// ---------------------------------------------------------------- models

#[derive(Module, Debug)]
struct Mlp {
    l1: Linear,
    l2: Linear,
    l3: Linear,
}
impl Mlp {
    fn new(d: &Device) -> Self {
        Self {
            l1: LinearConfig::new(784, 256).init(d),
            l2: LinearConfig::new(256, 256).init(d),
            l3: LinearConfig::new(256, 10).init(d),
        }
    }
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = relu(self.l1.forward(x));
        let x = relu(self.l2.forward(x));
        self.l3.forward(x)
    }
}

fn conv(cin: usize, cout: usize, k: usize, stride: usize, bias: bool, d: &Device) -> Conv2d {
    let p = k / 2;
    Conv2dConfig::new([cin, cout], [k, k])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(p, p, p, p))
        .with_bias(bias)
        .init(d)
}

#[derive(Module, Debug)]
struct Cnn {
    c1: Conv2d,
    c2: Conv2d,
    pool: MaxPool2d,
    fc: Linear,
}
impl Cnn {
    fn new(d: &Device) -> Self {
        Self {
            c1: conv(1, 16, 3, 1, true, d),
            c2: conv(16, 32, 3, 1, true, d),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc: LinearConfig::new(32 * 7 * 7, 10).init(d),
        }
    }
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.c1.forward(x)));
        let x = self.pool.forward(relu(self.c2.forward(x)));
        self.fc.forward(x.flatten(1, 3))
    }
}

#[derive(Module, Debug)]
struct Block {
    c1: Conv2d,
    b1: BatchNorm,
    c2: Conv2d,
    b2: BatchNorm,
    dc: Option<Conv2d>,
    db: Option<BatchNorm>,
}
impl Block {
    fn new(cin: usize, cout: usize, stride: usize, d: &Device) -> Self {
        let down = stride != 1 || cin != cout;
        Self {
            c1: conv(cin, cout, 3, stride, false, d),
            b1: BatchNormConfig::new(cout).init(d),
            c2: conv(cout, cout, 3, 1, false, d),
            b2: BatchNormConfig::new(cout).init(d),
            dc: down.then(|| conv(cin, cout, 1, stride, false, d)),
            db: down.then(|| BatchNormConfig::new(cout).init(d)),
        }
    }
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.b1.forward(self.c1.forward(x.clone())));
        let y = self.b2.forward(self.c2.forward(y));
        let r = match (&self.dc, &self.db) {
            (Some(c), Some(b)) => b.forward(c.forward(x)),
            _ => x,
        };
        relu(y + r)
    }
}

#[derive(Module, Debug)]
struct ResNet18 {
    stem: Conv2d,
    bn: BatchNorm,
    blocks: Vec<Block>,
    fc: Linear,
}
impl ResNet18 {
    fn new(d: &Device) -> Self {
        let (mut blocks, mut cin) = (vec![], 64);
        for (cout, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
            blocks.push(Block::new(cin, cout, stride, d));
            blocks.push(Block::new(cout, cout, 1, d));
            cin = cout;
        }
        Self {
            stem: conv(3, 64, 3, 1, false, d),
            bn: BatchNormConfig::new(64).init(d),
            blocks,
            fc: LinearConfig::new(512, 10).init(d),
        }
    }
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.bn.forward(self.stem.forward(x)));
        for b in &self.blocks {
            x = b.forward(x);
        }
        let x: Tensor<3> = x.flatten(2, 3);
        let x: Tensor<2> = x.mean_dim(2).flatten(1, 2);
        self.fc.forward(x)
    }
}

#[derive(Module, Debug)]
struct GptBlock {
    heads: usize,
    n1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    n2: LayerNorm,
    up: Linear,
    down: Linear,
}
impl GptBlock {
    fn new(d: usize, heads: usize, dev: &Device) -> Self {
        Self {
            heads,
            n1: LayerNormConfig::new(d).init(dev),
            qkv: LinearConfig::new(d, 3 * d).init(dev),
            proj: LinearConfig::new(d, d).init(dev),
            n2: LayerNormConfig::new(d).init(dev),
            up: LinearConfig::new(d, 4 * d).init(dev),
            down: LinearConfig::new(4 * d, d).init(dev),
        }
    }
    fn attend(&self, x: Tensor<3>, mask: Tensor<4>) -> Tensor<3> {
        let [b, t, d] = x.dims();
        let e = d / self.heads;
        let qkv = self.qkv.forward(x);
        let part = |i: usize| -> Tensor<4> {
            qkv.clone()
                .narrow(2, i * d, d)
                .reshape([b, t, self.heads, e])
                .swap_dims(1, 2)
        };
        let (q, k, v) = (part(0), part(1), part(2));
        let a = q.matmul(k.swap_dims(2, 3)) * (1.0 / (e as f32).sqrt()) + mask;
        let y = softmax(a, 3).matmul(v);
        self.proj.forward(y.swap_dims(1, 2).reshape([b, t, d]))
    }
    fn forward(&self, x: Tensor<3>, mask: Tensor<4>) -> Tensor<3> {
        let x = x.clone() + self.attend(self.n1.forward(x), mask);
        let h = gelu_approximate(self.up.forward(self.n2.forward(x.clone())));
        x + self.down.forward(h)
    }
}

#[derive(Module, Debug)]
struct Gpt {
    tok: Embedding,
    pos: Embedding,
    blocks: Vec<GptBlock>,
    norm: LayerNorm,
    head: Linear,
}
impl Gpt {
    fn new(dev: &Device) -> Self {
        let (vocab, t, d, layers, heads) = (256, 64, 128, 4, 4);
        Self {
            tok: EmbeddingConfig::new(vocab, d).init(dev),
            pos: EmbeddingConfig::new(t, d).init(dev),
            blocks: (0..layers).map(|_| GptBlock::new(d, heads, dev)).collect(),
            norm: LayerNormConfig::new(d).init(dev),
            head: LinearConfig::new(d, vocab).with_bias(false).init(dev),
        }
    }
    fn forward(&self, ids: Tensor<2, Int>, pos: Tensor<2, Int>, mask: Tensor<4>) -> Tensor<2> {
        let mut x = self.tok.forward(ids) + self.pos.forward(pos);
        for b in &self.blocks {
            x = b.forward(x, mask.clone());
        }
        self.head.forward(self.norm.forward(x)).flatten(0, 1)
    }
}

// ---------------------------------------------------------------- training

fn labels(n: usize, classes: u32, d: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(peers::labels(n, classes), [n]), d)
}

#[allow(clippy::too_many_arguments)]
fn train<M: Module>(
    a: &Args,
    case: &str,
    warm: usize,
    model: M,
    mut opt: ModuleOptimizer,
    lr: f64,
    forward: impl Fn(&M) -> Tensor<2>,
    y: Tensor<1, Int>,
) {
    let ce = CrossEntropyLossConfig::new().init(&device().autodiff());
    let mut losses = vec![];
    let mut slot = Some(model);
    let times = time(a, warm, || {
        let m = slot.take().unwrap();
        let loss = ce.forward(forward(&m), y.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &m);
        slot = Some(opt.step(lr, m, grads));
        losses.push(loss.into_scalar::<f32>());
    });
    report(case, times, &losses);
}

fn run(a: &Args, case: &str) {
    let d = device().autodiff();
    match case {
        "matmul_512" => matmul(a, case, 512, 512, 512),
        "matmul_1024" => matmul(a, case, 1024, 1024, 1024),
        "matmul_64x4096x64" => matmul(a, case, 64, 4096, 64),
        "add_16m" | "relu_16m" | "sum_16m" => elementwise(a, case),
        "mlp_adam" => {
            let x = randn([128, 784], &d);
            let opt = AdamConfig::new().with_epsilon(1e-8).init();
            train(a, case, 5, Mlp::new(&d), opt, 1e-3, |m| m.forward(x.clone()), labels(128, 10, &d))
        }
        "cnn_sgd" => {
            let x = randn([64, 1, 28, 28], &d);
            train(a, case, 5, Cnn::new(&d), SgdConfig::new().init(), 0.01, |m| m.forward(x.clone()), labels(64, 10, &d))
        }
        "resnet18_sgd" => {
            let x = randn([32, 3, 32, 32], &d);
            train(a, case, 2, ResNet18::new(&d), SgdConfig::new().init(), 0.01, |m| m.forward(x.clone()), labels(32, 10, &d))
        }
        "gpt_adamw" => {
            let ids = labels(1024, 256, &d).reshape([16, 64]);
            let pos = Tensor::<1, Int>::arange(0..64, &d).reshape([1, 64]);
            let t = 64usize;
            let m: Vec<f32> = (0..t * t)
                .map(|i| if i % t > i / t { f32::NEG_INFINITY } else { 0.0 })
                .collect();
            let mask = Tensor::<4>::from_data(TensorData::new(m, [1, 1, t, t]), &d);
            let opt = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init();
            train(a, case, 5, Gpt::new(&d), opt, 1e-3, |g| g.forward(ids.clone(), pos.clone(), mask.clone()), labels(1024, 256, &d))
        }
        c => panic!("no case {c}"),
    }
}

fn main() {
    let args = Args::read();
    args.cases.iter().for_each(|case| run(&args, case));
}
