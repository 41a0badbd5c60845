//! Reproducible: three steps of training give the same bits on one thread, on two and on three, and twice
//! in a row, for a convolutional network and a transformer, with Adam, AdaFisher and K-FAC; for the
//! transformer also with what lives in eigenvectors: EKFAC, Shampoo and SOAP.
#![allow(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use alcyon::nn::layer::{
    Activation, BatchNorm2d, Conv2d, Dropout, Embedding, Flatten, LayerNorm, Linear, MaxPool2d,
    MultiHeadAttention,
};
use alcyon::optim::{self, Batch};
use alcyon::prelude::*;

const OPTIMIZERS: [&str; 3] = ["adam", "adafisher", "kfac"];
const TURNED: [&str; 3] = ["ekfac", "shampoo", "soap"];
const STEPS: u64 = 3;

/// 24 images of 16 × 16: large enough that convolutions, their gradients and factors are split.
const IMAGES: [usize; 4] = [24, 3, 16, 16];

fn cnn(rng: &mut Rng) -> Sequential {
    let around = Window { padding: (1, 1), ..Window::new((3, 3)) };
    Sequential::new()
        .then(Conv2d::new(3, 16, around, rng))
        .then(BatchNorm2d::new(16))
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Conv2d::new(16, 32, around, rng))
        .then(Activation::Relu)
        .then(Flatten)
        .then(Dropout::new(0.1))
        .then(Linear::new(2048, 10, rng))
}

/// The width and the vocabulary of the transformer, and its batch: 16 sequences of 40 tokens.
const WIDTH: usize = 48;
const VOCABULARY: usize = 50;
const TOKENS: [usize; 2] = [16, 40];

/// One block of a transformer that predicts tokens.
#[derive(Debug)]
struct Transformer {
    embedding: Embedding,
    before_attention: LayerNorm,
    attention: MultiHeadAttention,
    feed_forward: Sequential,
    readout: Linear,
}
parameters!(Transformer { embedding, before_attention, attention, feed_forward, readout });

impl Transformer {
    fn new(rng: &mut Rng) -> Self {
        Self {
            embedding: Embedding::new(VOCABULARY, WIDTH, rng),
            before_attention: LayerNorm::new(WIDTH),
            attention: MultiHeadAttention::new(WIDTH, 4, rng).unwrap().causal(),
            feed_forward: Sequential::new()
                .then(LayerNorm::new(WIDTH))
                .then(Linear::new(WIDTH, 4 * WIDTH, rng))
                .then(Activation::Gelu)
                .then(Linear::new(4 * WIDTH, WIDTH, rng)),
            readout: Linear::new(WIDTH, VOCABULARY, rng),
        }
    }
}

impl Module for Transformer {
    fn forward(&self, tokens: &Var) -> Result<Var> {
        let x = self.embedding.forward(tokens)?;
        let x = x.add(&self.attention.forward(&self.before_attention.forward(&x)?)?)?;
        let x = x.add(&self.feed_forward.forward(&x)?)?;
        self.readout.forward(&x)
    }
}

/// The bits of the losses, and of all parameters and buffers after the last step.
fn trained<M: Module>(mut model: M, inputs: &Tensor, labels: &Tensor, optimizer: &str) -> Vec<u64> {
    let mut optimizer = optim::build(optimizer, None).unwrap();
    let loss = CrossEntropy::new(labels);
    let forward = |model: &M, tape: &Tape| model.forward(&tape.input(inputs.clone()));
    let losses = (0..STEPS).map(|step| {
        optimizer.minimize(&mut Batch::new(&mut model, forward, &loss).training(step)).unwrap()
    });
    let mut numbers: Vec<f64> = losses.collect();
    assert!(numbers.iter().all(|loss| loss.is_finite()), "{numbers:?}");
    numbers.extend(model.parameters().iter().flat_map(|(_, p)| p.value().to_f64_vec().unwrap()));
    numbers.extend(model.buffers().iter().flat_map(|(_, b)| b.value().to_f64_vec().unwrap()));
    numbers.into_iter().map(f64::to_bits).collect()
}

fn trained_cnn(optimizer: &str) -> Vec<u64> {
    let rng = &mut Rng::new(0);
    let inputs = Tensor::normal(IMAGES, 0.0, 1.0, DType::F32, rng);
    let labels = Tensor::random_indices([IMAGES[0]], 10, rng).unwrap();
    trained(cnn(rng), &inputs, &labels, optimizer)
}

fn trained_transformer(optimizer: &str) -> Vec<u64> {
    let rng = &mut Rng::new(0);
    let [inputs, labels] =
        [(); 2].map(|()| Tensor::random_indices(TOKENS, VOCABULARY, rng).unwrap());
    trained(Transformer::new(rng), &inputs, &labels, optimizer)
}

/// Asserts that a run gives the same on one thread, on two, there twice, and on three.
fn assert_reproducible(optimizers: [&str; 3], run: fn(&str) -> Vec<u64>) {
    for optimizer in optimizers {
        let [one, two, again, three] = [1, 2, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(optimizer))
        });
        assert!(one == two, "{optimizer}: two threads have changed the result of one");
        assert!(two == again, "{optimizer}: the second run differs from the first");
        assert!(one == three, "{optimizer}: three threads have changed the result of one");
    }
}

#[test]
fn threads_do_not_change_how_a_convolutional_network_is_trained() {
    assert_reproducible(OPTIMIZERS, trained_cnn);
}

#[test]
fn threads_do_not_change_how_a_transformer_is_trained() {
    assert_reproducible(OPTIMIZERS, trained_transformer);
}

#[test]
fn threads_do_not_change_signs_and_order_of_eigenvectors() {
    assert_reproducible(TURNED, trained_transformer);
}

#[test]
fn optimizers_are_told_apart_by_what_they_train() {
    // If a run did not depend on its optimizer, the tests above would test one of them thrice.
    let [adam, adafisher, kfac] = OPTIMIZERS.map(trained_cnn);
    assert!(adam != adafisher && adafisher != kfac && kfac != adam);
    let [ekfac, shampoo, soap] = TURNED.map(trained_transformer);
    assert!(ekfac != shampoo && shampoo != soap && soap != ekfac);
}
