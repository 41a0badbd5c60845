//! The reference models of the comparison, in Alcyon: the networks of `torch/models.py`.

use alcyon::engine::ops::attention::AttentionMask;
use alcyon::engine::{Result, parameters};
use alcyon::nn::{
    Activation, BatchNorm2d, Conv2d, Embedding, Flatten, LayerNorm, Linear, MaxPool2d, Mlp, Module,
    Sequential,
};
use alcyon::prelude::*;

/// 784-256-256-10 with ReLU.
pub fn mlp(rng: &mut Rng) -> Mlp {
    Mlp::new(&[784, 256, 256, 10], rng)
}

/// conv 3x3 1-16, ReLU, pool; conv 3x3 16-32, ReLU, pool; linear 1568-10.
pub fn cnn(rng: &mut Rng) -> Sequential {
    Sequential::new()
        .then(Conv2d::new(1, 16, window(3, 1), rng))
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Conv2d::new(16, 32, window(3, 1), rng))
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Linear::new(32 * 7 * 7, 10, rng))
}

/// A square window that keeps the image's size at stride 1.
fn window(size: usize, stride: usize) -> Window {
    let padding = size / 2;
    Window { stride: (stride, stride), padding: (padding, padding), ..Window::new((size, size)) }
}

/// A convolution without bias and the batch norm behind it.
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm2d,
}
parameters!(ConvNorm { conv, norm });

impl ConvNorm {
    fn new(inputs: usize, outputs: usize, window: Window, rng: &mut Rng) -> Self {
        let conv = Conv2d::new(inputs, outputs, window, rng).without_bias();
        Self { conv, norm: BatchNorm2d::new(outputs) }
    }
}

impl Module for ConvNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.norm.forward(&self.conv.forward(x)?)
    }
}

struct BasicBlock {
    first: ConvNorm,
    second: ConvNorm,
    down: Option<ConvNorm>,
}
parameters!(BasicBlock { first, second, down });

impl BasicBlock {
    fn new(inputs: usize, outputs: usize, stride: usize, rng: &mut Rng) -> Self {
        let changes = stride != 1 || inputs != outputs;
        Self {
            first: ConvNorm::new(inputs, outputs, window(3, stride), rng),
            second: ConvNorm::new(outputs, outputs, window(3, 1), rng),
            down: changes.then(|| ConvNorm::new(inputs, outputs, window(1, stride), rng)),
        }
    }
}

impl Module for BasicBlock {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = self.second.forward(&self.first.forward(x)?.relu()?)?;
        let rest = self.down.as_ref().map_or_else(|| Ok(x.clone()), |down| down.forward(x))?;
        y.add(&rest)?.relu()
    }
}

/// CIFAR ResNet-18: 3x3 stem, no pooling behind it, widths 64, 128, 256, 512 (He et al. 2016).
pub struct ResNet18 {
    stem: ConvNorm,
    blocks: Vec<BasicBlock>,
    head: Linear,
}
parameters!(ResNet18 { stem, blocks, head });

impl ResNet18 {
    pub fn new(rng: &mut Rng) -> Self {
        let stem = ConvNorm::new(3, 64, window(3, 1), rng);
        let (mut blocks, mut inputs) = (Vec::new(), 64);
        for (outputs, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
            blocks.push(BasicBlock::new(inputs, outputs, stride, rng));
            blocks.push(BasicBlock::new(outputs, outputs, 1, rng));
            inputs = outputs;
        }
        Self { stem, blocks, head: Linear::new(512, 10, rng) }
    }
}

impl Module for ResNet18 {
    fn forward(&self, x: &Var) -> Result<Var> {
        let mut x = self.stem.forward(x)?.relu()?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&x.mean(&[2, 3])?)
    }
}

struct Block {
    heads: usize,
    /// What is added to the scores; without it, attention is one op.
    mask: Option<Tensor>,
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}
parameters!(Block { norm1, qkv, proj, norm2, up, down });

impl Block {
    fn new(width: usize, heads: usize, mask: Option<Tensor>, rng: &mut Rng) -> Self {
        Self {
            heads,
            mask,
            norm1: LayerNorm::new(width),
            qkv: Linear::new(width, 3 * width, rng),
            proj: Linear::new(width, width, rng),
            norm2: LayerNorm::new(width),
            up: Linear::new(width, 4 * width, rng),
            down: Linear::new(4 * width, width, rng),
        }
    }

    /// softmax(q kᵀ/√e + mask) v, in heads of width e.
    fn attend(&self, x: &Var) -> Result<Var> {
        let [n, t, d] = [x.shape()[0], x.shape()[1], x.shape()[2]];
        let (heads, e) = (self.heads, d / self.heads);
        let mut parts = Vec::new();
        for part in self.qkv.forward(x)?.chunk(3, 2)? {
            parts.push(part.reshape([n, t, heads, e])?.permute(&[0, 2, 1, 3])?);
        }
        let ([q, k, v], scale) = ([&parts[0], &parts[1], &parts[2]], 1.0 / (e as f64).sqrt());
        let y = match &self.mask {
            None => q.attention(k, v, AttentionMask::Causal, scale)?,
            Some(mask) => {
                let scores = q.matmul(&k.transpose(-2, -1)?)?.scale(scale)?;
                scores.add(&Var::constant(mask))?.softmax(-1)?.matmul(v)?
            }
        };
        self.proj.forward(&y.permute(&[0, 2, 1, 3])?.reshape([n, t, d])?)
    }
}

impl Module for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let x = x.add(&self.attend(&self.norm1.forward(x)?)?)?;
        let inner = self.up.forward(&self.norm2.forward(&x)?)?.gelu_tanh()?;
        x.add(&self.down.forward(&inner)?)
    }
}

/// A decoder with the norm before each half.
pub struct Gpt {
    tokens: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}
parameters!(Gpt { tokens, places, blocks, norm, head });

impl Gpt {
    /// 4 blocks, width 128, 4 heads, 64 tokens, vocabulary 256. `fused`: with attention in one op.
    pub fn new(fused: bool, rng: &mut Rng) -> Self {
        Self::sized((4, 128, 4), (64, 256), fused, rng)
    }

    /// 12 blocks, width 768, 12 heads, 512 tokens, vocabulary 50304.
    pub fn small(rng: &mut Rng) -> Self {
        Self::sized((12, 768, 12), (512, 50304), true, rng)
    }

    fn sized(
        (blocks, width, heads): (usize, usize, usize),
        (t, vocabulary): (usize, usize),
        fused: bool,
        rng: &mut Rng,
    ) -> Self {
        let later = |i: usize| if i % t > i / t { f64::NEG_INFINITY } else { 0.0 };
        let mask = (!fused).then(|| Tensor::from_fn([t, t], DType::F32, later));
        Self {
            tokens: Embedding::new(vocabulary, width, rng),
            places: Embedding::new(t, width, rng),
            blocks: (0..blocks).map(|_| Block::new(width, heads, mask.clone(), rng)).collect(),
            norm: LayerNorm::new(width),
            head: Linear::new(width, vocabulary, rng).without_bias(),
        }
    }
}

impl Module for Gpt {
    /// ids: `[N, T]` · result: `[N·T, V]`
    fn forward(&self, ids: &Var) -> Result<Var> {
        let t = ids.shape()[1];
        let places = ids.tape()?.input(Tensor::arange(t, DType::I64).to_device(ids.device())?);
        let mut x = self.tokens.forward(ids)?.add(&self.places.forward(&places)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let logits = self.head.forward(&self.norm.forward(&x)?)?;
        logits.reshape([ids.numel(), logits.shape()[2]])
    }
}
