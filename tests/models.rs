//! Every model of the literature, small: its gradient is that of finite differences, and it trains with
//! the optimizers that see layers, which leave out none of its parameters.
#![allow(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use engine::{DType, Likelihood, Parameters, Result, Rng, Tape, Tensor};
use nn::models::{
    CctConfig, DenseNetConfig, FocalNetConfig, GptConfig, LstmConfig, MlpConfig, MobileBlock,
    MobileNetV3Config, ResNetConfig, Stem, SwinConfig, VitConfig,
};
use nn::{Activation, CrossEntropy, Module};
use optim::{Optimizer, build};

const CLASSES: usize = 4;
const TOKENS: usize = 9;

/// The tables of Swin's relative positions.
const BIASES: [&str; 3] = [
    "features.1.0.attn.relative_position_bias_table",
    "features.1.1.attn.relative_position_bias_table",
    "features.3.0.attn.relative_position_bias_table",
];

/// A model, and a batch to train it on.
struct Case {
    name: &'static str,
    model: Box<dyn Module>,
    inputs: Tensor,
    labels: Tensor,
    /// The parameters that have no factors with AdaFisher: those used outside layers, and tables that are
    /// only looked up, for which its sources have no rule.
    without_adafisher: &'static [&'static str],
    /// The parameters that have no factors with K-FAC: those used outside layers, and tables that are also
    /// a readout.
    without_kfac: &'static [&'static str],
}

/// A case, all of its parameters shaken: starting weights of 0.02 and biases of 0 let too little through
/// small widths to tell.
fn case(name: &'static str, mut model: Box<dyn Module>, inputs: Tensor, labels: Tensor) -> Case {
    let mut rng = Rng::new(5);
    for (_, p) in model.parameters_mut() {
        let noise = Tensor::normal(*p.value().shape(), 0.0, 0.2, DType::F32, &mut rng);
        *p.value_mut() = p.value().add(&noise).unwrap();
    }
    Case { name, model, inputs, labels, without_adafisher: &[], without_kfac: &[] }
}

fn images(name: &'static str, side: usize, model: Result<impl Module + 'static>) -> Case {
    let inputs = Tensor::normal([3, 3, side, side], 0.0, 1.0, DType::F32, &mut Rng::new(1));
    let labels = Tensor::from_slice(&[0_i64, 3, 1], [3]).unwrap();
    case(name, Box::new(model.unwrap()), inputs, labels)
}

fn texts(name: &'static str, model: Result<impl Module + 'static>) -> Case {
    let text = |seed| Tensor::random_indices([2, 5], TOKENS, &mut Rng::new(seed)).unwrap();
    let (inputs, labels) = (text(1), text(2));
    case(name, Box::new(model.unwrap()), inputs, labels)
}

fn cases() -> Vec<Case> {
    let mut rng = Rng::new(0);
    let rng = &mut rng;
    let mlp = MlpConfig { inputs: 48, width: 8, classes: CLASSES, ..MlpConfig::default() };
    let basic = ResNetConfig {
        blocks: vec![1, 1],
        width: 4,
        classes: CLASSES,
        stem: Stem::Cifar,
        ..ResNetConfig::default()
    };
    let bottleneck = ResNetConfig { bottleneck: true, stem: Stem::ImageNet, ..basic.clone() };
    let dense = DenseNetConfig {
        stem: Stem::Cifar,
        first: 4,
        growth: 2,
        blocks: vec![2, 1],
        bottleneck: 2,
        classes: CLASSES,
        dropout: 0.1,
    };
    let block = |kernel, squeeze, stride, activation| MobileBlock {
        kernel,
        expanded: 12,
        outputs: 6,
        squeeze,
        activation,
        stride,
    };
    let blocks =
        vec![block(3, false, 2, Activation::Relu), block(5, true, 1, Activation::HardSwish)];
    let mobile = MobileNetV3Config { stem: 6, blocks, last: 8, classes: CLASSES, dropout: 0.2 };
    let vit = VitConfig {
        image: 8,
        patch: 4,
        width: 8,
        depth: 2,
        heads: 2,
        classes: CLASSES,
        stochastic_depth: 0.2,
    };
    let swin = SwinConfig {
        patch: 2,
        width: 4,
        depths: vec![2, 1],
        heads: vec![1, 2],
        window: 3,
        classes: CLASSES,
        stochastic_depth: 0.2,
    };
    let focal = FocalNetConfig {
        width: 4,
        depths: vec![1, 1],
        levels: vec![2, 1],
        classes: CLASSES,
        ..FocalNetConfig::default()
    };
    let cct = CctConfig {
        image: 8,
        tokenizer: vec![4],
        width: 8,
        feed_forward: 8,
        classes: CLASSES,
        dropout: 0.1,
        ..CctConfig::default()
    };
    let gpt = GptConfig {
        vocabulary: TOKENS,
        context: 5,
        width: 8,
        layers: 2,
        heads: 2,
        ..GptConfig::default()
    };
    let lstm = LstmConfig { vocabulary: TOKENS, width: 4, hidden: 6, layers: 2, dropout: 0.2 };
    let without =
        |without_adafisher, without_kfac, case| Case { without_adafisher, without_kfac, ..case };
    let (class, places): (&[&str], &[&str]) =
        (&["cls_token", "pos_embed"], &["classifier.positional_emb"]);
    vec![
        images("mlp", 4, mlp.build(rng)),
        images("resnet, basic", 8, basic.build(rng)),
        images("resnet, bottleneck", 16, bottleneck.build(rng)),
        images("densenet", 6, dense.build(rng)),
        images("mobilenet_v3", 8, mobile.build(rng)),
        without(class, class, images("vit", 8, vit.build(rng))),
        without(&BIASES, &[], images("swin", 10, swin.build(rng))),
        images("focalnet", 16, focal.build(rng)),
        without(places, places, images("cct", 8, cct.build(rng))),
        without(
            &["transformer.positions_embed.weight"],
            &["transformer.tokens_embed.weight"],
            texts("gpt", gpt.build(rng)),
        ),
        without(
            &["transformer.wpe.weight"],
            &["transformer.wte.weight"],
            texts("gpt2", gpt.build_gpt2(rng)),
        ),
        without(&["encoder.weight"], &[], texts("lstm", lstm.build(rng))),
    ]
}

/// One step in training mode; the loss before it.
fn step(case: &mut Case, optimizer: &mut dyn Optimizer, seed: u64) -> f64 {
    let tape = Tape::training(seed);
    let outputs = case.model.forward(&tape.input(case.inputs.clone())).unwrap();
    let loss = CrossEntropy::new(&case.labels);
    let pass = optim::backward(&tape, &outputs, &loss, optimizer).unwrap();
    optimizer.step(&mut case.model, &pass.gradients).unwrap();
    case.model.commit(tape.staged()).unwrap();
    pass.loss.item().unwrap()
}

#[test]
fn every_model_takes_three_steps_with_each_and_no_parameter_is_left_out() {
    for name in ["adafisher", "kfac", "shampoo"] {
        for mut case in cases() {
            let mut optimizer = build(name, None).unwrap();
            let before = values(&*case.model);
            for seed in 0..3 {
                let loss = step(&mut case, &mut *optimizer, seed);
                assert!(loss.is_finite(), "{name}, {}: {loss}", case.name);
            }
            let after = values(&*case.model);
            assert!(after.iter().flatten().all(|x| x.is_finite()), "{name}, {}", case.name);
            assert_ne!(before, after, "{name} does not move {}", case.name);

            let coverage = optimizer.coverage(&case.model);
            let paths: Vec<String> = case.model.parameters().into_iter().map(|(p, _)| p).collect();
            let lines = coverage.lines.iter();
            assert!(lines.clone().map(|line| &line.param).eq(&paths), "{coverage}");
            // What coverage says of a parameter that has no factors.
            let (says, without): (&str, &[&str]) = match name {
                "adafisher" => ("(fallback)", case.without_adafisher),
                "kfac" => ("gradient", case.without_kfac),
                _ => ("frozen", &[]),
            };
            let found = lines.filter(|line| line.rule.contains(says));
            let found: Vec<&str> = found.map(|line| line.param.as_str()).collect();
            assert_eq!(found, without, "{name}, {}\n{coverage}", case.name);
        }
    }
}

fn values(model: &dyn Module) -> Vec<Vec<f64>> {
    model.parameters().into_iter().map(|(_, p)| p.value().to_f64_vec().unwrap()).collect()
}

/// Central differences in f64 along a direction.
const TOLERANCE: f64 = 1e-6;

/// A direction in which parameters (and the input, where it is no token) move together.
struct Direction {
    parameters: Vec<Tensor>,
    input: Option<Tensor>,
}

fn noise(like: &Tensor, rng: &mut Rng) -> Tensor {
    Tensor::normal(*like.shape(), 0.0, 1.0, DType::F64, rng)
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.mul(b).unwrap().sum_all().unwrap().item().unwrap()
}

/// The loss on a tape that draws the same masks every time, and its slope along a direction.
fn evaluate(model: &dyn Module, inputs: &Tensor, labels: &Tensor, along: &Direction) -> (f64, f64) {
    let tape = Tape::training(4);
    let x = tape.watch(inputs.clone());
    let nll = CrossEntropy::new(labels).nll(&model.forward(&x).unwrap()).unwrap();
    let grads = tape.backward(&nll).unwrap();
    let parameters = model.parameters();
    assert_eq!(grads.params().len(), parameters.len(), "every parameter has a gradient");
    let slopes = parameters.iter().zip(&along.parameters);
    let slope: f64 = slopes.map(|((_, p), d)| dot(grads.of(p).unwrap(), d)).sum();
    let input = along.input.as_ref().map_or(0.0, |d| dot(grads.of_var(&x).unwrap(), d));
    (nll.item().unwrap(), slope + input)
}

#[test]
fn the_gradient_of_every_model_is_that_of_finite_differences() {
    for Case { name, model, mut inputs, labels, .. } in cases() {
        let mut model = model.to_dtype(DType::F64).unwrap();
        let mut rng = Rng::new(7);
        let parameters =
            model.parameters().iter().map(|(_, p)| noise(p.value(), &mut rng)).collect();
        let mut along = Direction { parameters, input: None };
        if inputs.dtype().is_float() {
            inputs = inputs.to_dtype(DType::F64).unwrap();
            along.input = Some(noise(&inputs, &mut rng));
        }
        let (_, slope) = evaluate(&model, &inputs, &labels, &along);
        let h = 1e-6;
        let [up, down] = [h, -2.0 * h].map(|by| {
            let moved = |x: &Tensor, d: &Tensor| x.add(&d.scale(by).unwrap()).unwrap();
            for ((_, p), d) in model.parameters_mut().into_iter().zip(&along.parameters) {
                *p.value_mut() = moved(p.value(), d);
            }
            if let Some(d) = &along.input {
                inputs = moved(&inputs, d);
            }
            evaluate(&model, &inputs, &labels, &along).0
        });
        let difference = (up - down) / (2.0 * h);
        let apart = (difference - slope).abs() / slope.abs().max(1.0);
        assert!(apart < TOLERANCE, "{name}: {slope} by the tape, {difference} by differences");
    }
}
