//! candle's side of the comparison: one line of JSON a case.
//!
//! Its `LayerNorm` and `softmax_last_dim` have no backward, so the GPT uses the slow formulas; its Adam
//! is AdamW without decay.
use candle_core::{DType, Device, Module, ModuleT, Result, Tensor, D};
use candle_nn::{
    batch_norm, conv2d, conv2d_no_bias, embedding, linear, linear_no_bias, loss, ops, AdamW,
    BatchNorm, Conv2d, Conv2dConfig, Embedding, Linear, Optimizer, ParamsAdamW, VarBuilder, VarMap,
    SGD,
};
use peers::{report, Args};

fn matmul(a: &Args, case: &str, m: usize, k: usize, n: usize) -> Result<()> {
    let d = Device::Cpu;
    let x = Tensor::randn(0f32, 1., (m, k), &d)?;
    let y = Tensor::randn(0f32, 1., (k, n), &d)?;
    report(case, a.time(10, || x.matmul(&y).map(drop))?, &[]);
    Ok(())
}

fn elementwise(a: &Args, case: &str) -> Result<()> {
    let n = 16 * 1024 * 1024;
    let d = Device::Cpu;
    let x = Tensor::randn(0f32, 1., n, &d)?;
    let y = Tensor::randn(0f32, 1., n, &d)?;
    let times = match case {
        "add_16m" => a.time(3, || x.add(&y).map(drop)),
        "relu_16m" => a.time(3, || x.relu().map(drop)),
        _ => a.time(3, || x.sum_all()?.to_scalar::<f32>().map(drop)),
    };
    report(case, times?, &[]);
    Ok(())
}

// ---------------------------------------------------------------- models

struct Mlp(Linear, Linear, Linear);
impl Mlp {
    fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self(linear(784, 256, vb.pp("l1"))?, linear(256, 256, vb.pp("l2"))?, linear(256, 10, vb.pp("l3"))?))
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.0.forward(x)?.relu()?;
        let x = self.1.forward(&x)?.relu()?;
        self.2.forward(&x)
    }
}

fn pad1(stride: usize) -> Conv2dConfig {
    Conv2dConfig { padding: 1, stride, ..Default::default() }
}

struct Cnn(Conv2d, Conv2d, Linear);
impl Cnn {
    fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self(
            conv2d(1, 16, 3, pad1(1), vb.pp("c1"))?,
            conv2d(16, 32, 3, pad1(1), vb.pp("c2"))?,
            linear(32 * 7 * 7, 10, vb.pp("fc"))?,
        ))
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.0.forward(x)?.relu()?.max_pool2d(2)?;
        let x = self.1.forward(&x)?.relu()?.max_pool2d(2)?;
        self.2.forward(&x.flatten_from(1)?)
    }
}

struct Block {
    c1: Conv2d,
    b1: BatchNorm,
    c2: Conv2d,
    b2: BatchNorm,
    down: Option<(Conv2d, BatchNorm)>,
}
impl Block {
    fn new(cin: usize, cout: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        let down = if stride != 1 || cin != cout {
            let cfg = Conv2dConfig { stride, ..Default::default() };
            Some((
                conv2d_no_bias(cin, cout, 1, cfg, vb.pp("dc"))?,
                batch_norm(cout, 1e-5, vb.pp("db"))?,
            ))
        } else {
            None
        };
        Ok(Self {
            c1: conv2d_no_bias(cin, cout, 3, pad1(stride), vb.pp("c1"))?,
            b1: batch_norm(cout, 1e-5, vb.pp("b1"))?,
            c2: conv2d_no_bias(cout, cout, 3, pad1(1), vb.pp("c2"))?,
            b2: batch_norm(cout, 1e-5, vb.pp("b2"))?,
            down,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.b1.forward_t(&self.c1.forward(x)?, true)?.relu()?;
        let y = self.b2.forward_t(&self.c2.forward(&y)?, true)?;
        let r = match &self.down {
            Some((c, b)) => b.forward_t(&c.forward(x)?, true)?,
            None => x.clone(),
        };
        (y + r)?.relu()
    }
}

struct ResNet18 {
    stem: Conv2d,
    bn: BatchNorm,
    blocks: Vec<Block>,
    fc: Linear,
}
impl ResNet18 {
    fn new(vb: VarBuilder) -> Result<Self> {
        let (mut blocks, mut cin) = (vec![], 64);
        for (i, (cout, stride)) in [(64, 1), (128, 2), (256, 2), (512, 2)].into_iter().enumerate() {
            blocks.push(Block::new(cin, cout, stride, vb.pp(format!("s{i}a")))?);
            blocks.push(Block::new(cout, cout, 1, vb.pp(format!("s{i}b")))?);
            cin = cout;
        }
        Ok(Self {
            stem: conv2d_no_bias(3, 64, 3, pad1(1), vb.pp("stem"))?,
            bn: batch_norm(64, 1e-5, vb.pp("bn"))?,
            blocks,
            fc: linear(512, 10, vb.pp("fc"))?,
        })
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.bn.forward_t(&self.stem.forward(x)?, true)?.relu()?;
        for b in &self.blocks {
            x = b.forward(&x)?;
        }
        self.fc.forward(&x.mean((2, 3))?)
    }
}

/// `candle_nn::LayerNorm` takes a fused kernel without backward whenever its input is contiguous,
/// so a model that is trained has to call the slow formula by hand.
struct Norm(Tensor, Tensor);
impl Norm {
    fn new(d: usize, vb: VarBuilder) -> Result<Self> {
        use candle_nn::Init;
        Ok(Self(
            vb.get_with_hints(d, "weight", Init::Const(1.))?,
            vb.get_with_hints(d, "bias", Init::Const(0.))?,
        ))
    }
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm_slow(x, &self.0, &self.1, 1e-5)
    }
}

struct GptBlock {
    heads: usize,
    n1: Norm,
    qkv: Linear,
    proj: Linear,
    n2: Norm,
    up: Linear,
    down: Linear,
}
impl GptBlock {
    fn new(d: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            heads,
            n1: Norm::new(d, vb.pp("n1"))?,
            qkv: linear(d, 3 * d, vb.pp("qkv"))?,
            proj: linear(d, d, vb.pp("proj"))?,
            n2: Norm::new(d, vb.pp("n2"))?,
            up: linear(d, 4 * d, vb.pp("up"))?,
            down: linear(4 * d, d, vb.pp("down"))?,
        })
    }
    fn attend(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let e = d / self.heads;
        let qkv = self.qkv.forward(x)?;
        let part = |i: usize| -> Result<Tensor> {
            qkv.narrow(2, i * d, d)?.reshape((b, t, self.heads, e))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let a = (q.matmul(&k.t()?)? * (1.0 / (e as f64).sqrt()))?.broadcast_add(mask)?;
        let y = ops::softmax(&a, D::Minus1)?.matmul(&v)?;
        self.proj.forward(&y.transpose(1, 2)?.reshape((b, t, d))?)
    }
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = (x + self.attend(&self.n1.forward(x)?, mask)?)?;
        let h = self.up.forward(&self.n2.forward(&x)?)?.gelu()?;
        &x + self.down.forward(&h)?
    }
}

struct Gpt {
    tok: Embedding,
    pos: Embedding,
    blocks: Vec<GptBlock>,
    norm: Norm,
    head: Linear,
    mask: Tensor,
    idx: Tensor,
}
impl Gpt {
    fn new(vb: VarBuilder) -> Result<Self> {
        let (vocab, t, d, layers, heads) = (256usize, 64usize, 128usize, 4usize, 4usize);
        let dev = vb.device().clone();
        let mask: Vec<f32> = (0..t * t)
            .map(|i| if i % t > i / t { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        Ok(Self {
            tok: embedding(vocab, d, vb.pp("tok"))?,
            pos: embedding(t, d, vb.pp("pos"))?,
            blocks: (0..layers)
                .map(|i| GptBlock::new(d, heads, vb.pp(format!("b{i}"))))
                .collect::<Result<_>>()?,
            norm: Norm::new(d, vb.pp("norm"))?,
            head: linear_no_bias(d, vocab, vb.pp("head"))?,
            mask: Tensor::from_vec(mask, (t, t), &dev)?,
            idx: Tensor::arange(0u32, t as u32, &dev)?,
        })
    }
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut x = self.tok.forward(ids)?.broadcast_add(&self.pos.forward(&self.idx)?)?;
        for b in &self.blocks {
            x = b.forward(&x, &self.mask)?;
        }
        self.head.forward(&self.norm.forward(&x)?)?.flatten_to(1)
    }
}

// ---------------------------------------------------------------- training

fn labels(n: usize, classes: u32) -> Result<Tensor> {
    let all: Vec<u32> = peers::labels(n, classes).into_iter().map(|label| label as u32).collect();
    Tensor::from_vec(all, n, &Device::Cpu)
}

fn train<O: Optimizer>(
    a: &Args,
    case: &str,
    warm: usize,
    mut opt: O,
    forward: impl Fn() -> Result<Tensor>,
    y: &Tensor,
) -> Result<()> {
    let mut losses = vec![];
    let times = a.time(warm, || {
        let l = loss::cross_entropy(&forward()?, y)?;
        opt.backward_step(&l)?;
        losses.push(l.to_scalar::<f32>()?);
        Ok::<(), candle_core::Error>(())
    });
    report(case, times?, &losses);
    Ok(())
}

fn run(a: &Args, case: &str) -> Result<()> {
    let dev = Device::Cpu;
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &dev);
    let adam = |wd| ParamsAdamW { lr: 1e-3, weight_decay: wd, ..Default::default() };
    match case {
        "matmul_512" => matmul(a, case, 512, 512, 512),
        "matmul_1024" => matmul(a, case, 1024, 1024, 1024),
        "matmul_64x4096x64" => matmul(a, case, 64, 4096, 64),
        "add_16m" | "relu_16m" | "sum_16m" => elementwise(a, case),
        "mlp_adam" => {
            let m = Mlp::new(vb)?;
            let x = Tensor::randn(0f32, 1., (128, 784), &dev)?;
            train(a, case, 5, AdamW::new(map.all_vars(), adam(0.0))?, || m.forward(&x), &labels(128, 10)?)
        }
        "cnn_sgd" => {
            let m = Cnn::new(vb)?;
            let x = Tensor::randn(0f32, 1., (64, 1, 28, 28), &dev)?;
            train(a, case, 5, SGD::new(map.all_vars(), 0.01)?, || m.forward(&x), &labels(64, 10)?)
        }
        "resnet18_sgd" => {
            let m = ResNet18::new(vb)?;
            let x = Tensor::randn(0f32, 1., (32, 3, 32, 32), &dev)?;
            train(a, case, 2, SGD::new(map.all_vars(), 0.01)?, || m.forward(&x), &labels(32, 10)?)
        }
        "gpt_adamw" => {
            let m = Gpt::new(vb)?;
            let ids = labels(1024, 256)?.reshape((16, 64))?;
            train(a, case, 5, AdamW::new(map.all_vars(), adam(0.01))?, || m.forward(&ids), &labels(1024, 256)?)
        }
        c => candle_core::bail!("no case {c}"),
    }
}

fn main() -> Result<()> {
    let args = Args::read();
    args.cases.iter().try_for_each(|case| run(&args, case))
}
