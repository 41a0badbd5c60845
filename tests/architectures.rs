//! One block of every architecture that the ops are meant for, written with them: its gradient with
//! respect to the input and all weights agrees with finite differences, and its layers are on record.
#![allow(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use engine::compose::Padding;
use engine::ops::attention::AttentionMask;
use engine::{
    DType, Geometry, LayerRecord, Parameter, Result, Rng, Tape, Tensor, Var, Window, gradcheck,
};

/// Central differences in f64 through a whole block.
const TOLERANCE: f64 = 1e-6;

type Block = fn(&[Var]) -> Result<Var>;

/// An input and weights of the given shapes, in f64.
fn inputs(shapes: &[&[usize]]) -> Vec<Tensor> {
    let mut rng = Rng::new(7);
    let shapes = shapes.iter().map(|s| engine::Shape::new(s).unwrap());
    shapes.map(|s| Tensor::normal(s, 0.0, 0.7, DType::F64, &mut rng)).collect()
}

/// Checks the gradients; returns how many layer records a sweep makes.
fn checked(shapes: &[&[usize]], block: Block) -> usize {
    let inputs = inputs(shapes);
    let check = gradcheck::first_order(&inputs, block).unwrap();
    assert!(check.entries > 0 && check.error < TOLERANCE, "{check:?}");
    let tape = Tape::training(0);
    let weights: Vec<Parameter> = inputs[1..].iter().map(|t| Parameter::new(t.clone())).collect();
    let mut x = vec![tape.watch(inputs[0].clone())];
    x.extend(weights.iter().map(|w| tape.bind(w)));
    let mut records: Vec<LayerRecord> = Vec::new();
    let loss = block(&x).unwrap().sum_all().unwrap();
    let grads = tape.backward_observed(&loss, &mut records).unwrap();
    assert_eq!(grads.len(), weights.len(), "every weight has a gradient");
    records.len()
}

fn conv(kernel: usize, padding: usize, groups: usize) -> Geometry {
    let window = Window { padding: (padding, padding), ..Window::new((kernel, kernel)) };
    Geometry { window, groups }
}

#[test]
fn resnet_a_residual_block() {
    let block: Block = |x| {
        let y = x[0].conv2d(&x[1], None, conv(3, 1, 1))?;
        let y = y.batch_norm(&x[2], &x[3], 1e-2)?.0.relu()?;
        y.conv2d(&x[4], None, conv(3, 1, 1))?.add(&x[0])?.relu()
    };
    assert_eq!(checked(&[&[2, 2, 3, 3], &[3, 2, 3, 3], &[3], &[3], &[2, 3, 3, 3]], block), 3);
}

#[test]
fn densenet_a_layer_joined_to_its_input() {
    let block: Block = |x| {
        let new = x[0].group_norm(1, Some(&x[1]), Some(&x[2]), 1e-2)?.relu()?;
        let new = new.conv2d(&x[3], None, conv(3, 1, 1))?;
        let half = Window { stride: (2, 2), ..Window::new((2, 2)) };
        Var::concat(&[&x[0], &new], 1)?.avg_pool2d(half, false)
    };
    assert_eq!(checked(&[&[2, 2, 4, 4], &[2], &[2], &[2, 2, 3, 3]], block), 2);
}

#[test]
fn mobilenet_v3_depthwise_squeeze_and_excite_hard_swish() {
    let block: Block = |x| {
        let y = x[0].conv2d(&x[1], None, conv(3, 1, 4))?.hard_swish()?;
        let squeezed = y.mean(&[2, 3])?.linear(&x[2], None)?.relu()?.linear(&x[3], None)?;
        y.mul(&squeezed.hard_sigmoid()?.reshape([2, 4, 1, 1])?)
    };
    assert_eq!(checked(&[&[2, 4, 3, 3], &[4, 1, 3, 3], &[3, 4], &[4, 3]], block), 3);
}

/// A 4 × 4 image of width 4 in windows of 2 × 2, moved by one pixel, with a bias for every relative
/// position. Liu et al. 2021.
#[test]
fn swin_shifted_windows_with_relative_position_bias() {
    let block: Block = |x| {
        let moved = x[0].roll(&[-1, -1], &[1, 2])?;
        let windows = moved.reshape([1, 2, 2, 2, 2, 4])?.permute(&[0, 1, 3, 2, 4, 5])?;
        let windows = windows.reshape([4, 4, 4])?;
        let parts = windows.linear(&x[1], None)?.chunk(3, -1)?;
        let scores = Var::einsum("wqd,wkd->wqk", &[&parts[0], &parts[1]])?.scale(0.5)?;
        // Rows and columns differ by −1, 0 or 1: nine positions.
        let place = |i: usize| {
            let (q, k) = (i / 4, i % 4);
            (3 * (q / 2 + 1 - k / 2) + (q % 2 + 1 - k % 2)) as f64
        };
        let index = Var::constant(&Tensor::from_fn([16], DType::I64, place));
        let bias = x[2].gather(0, &index)?.reshape([1, 4, 4])?;
        // What was not next to each other before the roll must not meet: the right and lower windows.
        let region = |w: usize, t: usize| {
            let (row, column) = (2 * (w / 2) + t / 2, 2 * (w % 2) + t % 2);
            (usize::from(row == 3), usize::from(column == 3))
        };
        let apart = |i: usize| {
            let (w, q, k) = (i / 16, i / 4 % 4, i % 4);
            f64::from(u8::from(region(w, q) != region(w, k)))
        };
        let mask = Var::constant(&Tensor::from_fn([4, 4, 4], DType::I64, apart));
        let weights = scores.add(&bias)?.masked_fill(&mask, f64::NEG_INFINITY)?.softmax(-1)?;
        let y = weights.matmul(&parts[2])?.reshape([1, 2, 2, 2, 2, 4])?;
        y.permute(&[0, 1, 3, 2, 4, 5])?.reshape([1, 4, 4, 4])?.roll(&[1, 1], &[1, 2])
    };
    assert_eq!(checked(&[&[1, 4, 4, 4], &[12, 4], &[9]], block), 1);
}

/// Context of growing size, gated and multiplied into a query. Yang et al. 2022.
#[test]
fn focalnet_focal_modulation() {
    let block: Block = |x| {
        let parts = x[0].conv2d(&x[1], None, conv(1, 0, 1))?.split(&[2, 2, 2], 1)?;
        let gates = parts[2].chunk(2, 1)?;
        let near = parts[1].conv2d(&x[2], None, conv(3, 1, 2))?.gelu()?;
        let all = near.mean(&[2, 3])?.reshape([1, 2, 1, 1])?.gelu()?;
        let context = near.mul(&gates[0])?.add(&all.mul(&gates[1])?)?;
        parts[0].mul(&context.conv2d(&x[3], None, conv(1, 0, 1))?)
    };
    let shapes: [&[usize]; 4] = [&[1, 2, 3, 4], &[6, 2, 1, 1], &[2, 1, 3, 3], &[2, 2, 1, 1]];
    assert_eq!(checked(&shapes, block), 3);
}

/// Tokens pooled by a softmax over the sequence. Hassani et al. 2021.
#[test]
fn cct_sequence_pooling() {
    let block: Block = |x| {
        let weights = x[0].linear(&x[1], Some(&x[2]))?.softmax(1)?; // [N, T, 1]
        let pooled = weights.transpose(1, 2)?.matmul(&x[0])?.reshape([2, 4])?;
        pooled.linear(&x[3], None)
    };
    assert_eq!(checked(&[&[2, 3, 4], &[1, 4], &[1], &[3, 4]], block), 2);
}

#[test]
fn gpt_causal_attention_and_a_feed_forward_part() {
    let block: Block = |x| {
        let y = x[0].layer_norm(Some(&x[1]), Some(&x[2]), 1e-2)?.linear(&x[3], None)?;
        let heads = |part: &Var| part.reshape([2, 3, 2, 2])?.transpose(1, 2);
        let parts = y.chunk(3, -1)?;
        let (q, k, v) = (heads(&parts[0])?, heads(&parts[1])?, heads(&parts[2])?);
        let y = q.attention(&k, &v, AttentionMask::Causal, 0.5_f64.sqrt())?;
        let y = y.transpose(1, 2)?.reshape([2, 3, 4])?.linear(&x[4], None)?.add(&x[0])?;
        y.rms_norm(Some(&x[5]), 1e-2)?
            .linear(&x[6], None)?
            .gelu_tanh()?
            .linear(&x[7], None)?
            .add(&y)
    };
    let shapes: [&[usize]; 8] = [&[2, 3, 4], &[4], &[4], &[12, 4], &[4, 4], &[4], &[6, 4], &[4, 6]];
    assert_eq!(checked(&shapes, block), 6);
}

/// Three steps with the same weights. Hochreiter & Schmidhuber 1997.
#[test]
fn lstm_three_steps() {
    let block: Block = |x| {
        let zeros = || Var::constant(&Tensor::zeros([2, 3], DType::F64));
        let (mut h, mut c) = (zeros(), zeros());
        for t in 0..3 {
            let input = x[0].narrow(1, t, 1)?.reshape([2, 2])?;
            let all = input.linear(&x[1], Some(&x[2]))?.add(&h.linear(&x[3], None)?)?;
            let gates = all.chunk(4, 1)?;
            let forgotten = gates[1].sigmoid()?.mul(&c)?;
            c = forgotten.add(&gates[0].sigmoid()?.mul(&gates[2].tanh()?)?)?;
            h = gates[3].sigmoid()?.mul(&c.tanh()?)?;
        }
        Ok(h)
    };
    assert_eq!(checked(&[&[2, 3, 2], &[12, 2], &[12], &[12, 3]], block), 6, "each use is a record");
}

#[test]
fn a_decoder_resizes_pads_and_transposes_convolutions() {
    let block: Block = |x| {
        let up = Geometry { window: Window { stride: (2, 2), ..Window::new((2, 2)) }, groups: 1 };
        let y = x[0].conv_transpose2d(&x[1], None, up, (0, 0))?.leaky_relu(0.1)?;
        let y = y.pad(2, 1, 1, Padding::Reflect)?.pad(3, 1, 1, Padding::Edge)?;
        let y = y.conv2d(&x[2], None, conv(3, 0, 1))?.elu(1.0)?;
        let how = engine::ops::interpolate::Interpolation::Bilinear { align_corners: false };
        y.interpolate((5, 3), how)
    };
    assert_eq!(checked(&[&[1, 2, 2, 3], &[2, 3, 2, 2], &[2, 3, 3, 3]], block), 2);
}
