//! Blocks of architectures that the ops are meant for and `nn::models` does not have, written with ops: their
//! gradients with respect to the input and all weights agree with finite differences, and their layers are
//! on record.
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
fn a_decoder_layer_with_causal_attention_and_root_mean_square_norms() {
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
