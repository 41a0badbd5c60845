//! Optimizers that keep a matrix by a side of a parameter: what they keep of long sides, and what their authors'
//! rules say of scale, structure and the matrices that they are for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "matrices/cut.rs"]
mod cut;
#[path = "matrices/kl_shampoo.rs"]
mod kl_shampoo;
#[path = "matrices/long.rs"]
mod long;
#[path = "matrices/muon.rs"]
mod muon;
#[path = "matrices/psgd.rs"]
mod psgd;
#[path = "matrices/singd.rs"]
mod singd;

use engine::{DType, Gradients, Layer, LayerRecord, Parameter, Rng, Tensor};
use optim::Optimizer;

fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut Rng::new(seed))
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().unwrap()
}

fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |s, x| s.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}, at {i}: {a} and {b}");
    }
}

/// One step on a gradient; what the weight moved by, negated.
fn feed(optimizer: &mut dyn Optimizer, weight: &mut Parameter, g: &Tensor) -> Vec<f64> {
    let before = numbers(weight.value());
    let mut grads = Gradients::default();
    grads.set(weight, g.to_dtype(weight.value().dtype()).unwrap());
    optimizer.step(weight, &grads).unwrap();
    before.iter().zip(numbers(weight.value())).map(|(a, b)| a - b).collect()
}

/// Shows an optimizer a dense layer of inputs X [N, n] and gradients of its terms D [N, m], and steps on the
/// gradient DᵀX/N; what the weight moved by, negated.
fn show(optimizer: &mut dyn Optimizer, weight: &mut Parameter, x: &Tensor, d: &Tensor) -> Vec<f64> {
    let terms = x.shape()[0];
    let record = LayerRecord {
        layer: Layer::Dense,
        weight: weight.id(),
        weight_shape: *weight.value().shape(),
        bias: None,
        input: x.clone(),
        moments: None,
        output_grad: d.scale(1.0 / terms as f64).unwrap(),
        is_last: false,
    };
    if let Some(source) = optimizer.curvature().filter(|source| source.due()) {
        source.begin_sweep(0);
        source.observe(&record).unwrap();
        source.finish(terms).unwrap();
    }
    let gradient = d.transpose(0, 1).unwrap().matmul(x).unwrap().scale(1.0 / terms as f64).unwrap();
    feed(optimizer, weight, &gradient)
}
