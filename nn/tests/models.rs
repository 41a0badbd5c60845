//! Every model loads a file of its original's weights and gives the original's output.
//!
//! The files and how they were made are in `golden/make.py`. A file lists the names of parameters and
//! buffers in the original's order, which have to be the model's.
#![allow(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::path::Path;

use alcyon_nn::Activation::{HardSwish, Relu};
use alcyon_nn::models::{
    CctConfig, DenseNetConfig, FocalNetConfig, GptConfig, LstmConfig, MlpConfig, MobileBlock,
    MobileNetV3Config, ResNetConfig, Stem, SwinConfig, VitConfig, from_hugging_face,
};
use alcyon_nn::{Checkpoint, Module};
use engine::{Error, Parameters, Rng};

/// Two programs in single precision, relative to the largest output.
const TOLERANCE: f64 = 1e-5;

fn read(name: &str) -> Checkpoint {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    Checkpoint::read(&folder.join(format!("{name}.safetensors"))).unwrap()
}

/// Loads a file into a model and compares names, order and the output.
fn agrees_with(name: &str, model: impl Module) {
    agrees(&read(name), model);
}

fn agrees(golden: &Checkpoint, mut model: impl Module) {
    let named = |key: &str| golden.metadata[key].split_whitespace().collect::<Vec<_>>();
    let mut paths: Vec<String> = model.parameters().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, named("parameters"));
    let tables = |path: &&str| !path.ends_with("relative_position_index");
    paths = model.buffers().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, named("buffers").into_iter().filter(tables).collect::<Vec<_>>());

    golden.restore(&mut model).unwrap();
    let got = model.predict(&golden.extra["input"]).unwrap();
    let expected = &golden.extra["output"];
    assert_eq!(got.shape(), expected.shape());
    let (got, expected) = (got.to_f64_vec().unwrap(), expected.to_f64_vec().unwrap());
    let size = expected.iter().fold(0.0_f64, |size, y| size.max(y.abs()));
    let apart = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart < TOLERANCE * size, "{apart} for outputs up to {size}");
}

fn rng() -> Rng {
    Rng::new(99)
}

#[test]
fn an_mlp_gives_the_output_of_its_file() {
    let config = MlpConfig { inputs: 6, width: 8, classes: 5, ..MlpConfig::default() };
    agrees_with("mlp", config.build(&mut rng()).unwrap());
}

#[test]
fn residual_networks_of_both_kinds_give_the_output_of_their_files() {
    let config = ResNetConfig {
        blocks: vec![1, 2, 1, 1],
        width: 4,
        classes: 5,
        stem: Stem::Cifar,
        ..ResNetConfig::default()
    };
    agrees_with("resnet_basic", config.build(&mut rng()).unwrap());
    let blocks = vec![2, 1, 1, 1];
    let config = ResNetConfig { bottleneck: true, blocks, stem: Stem::ImageNet, ..config };
    agrees_with("resnet_bottleneck", config.build(&mut rng()).unwrap());
}

#[test]
fn both_decoders_give_the_output_of_their_files() {
    let config = GptConfig {
        vocabulary: 11,
        context: 7,
        width: 12,
        layers: 2,
        heads: 3,
        ..GptConfig::default()
    };
    let translated = |name| from_hugging_face(read(name)).unwrap();
    agrees(&translated("gpt"), config.build(&mut rng()).unwrap());
    agrees(&translated("gpt2"), config.build_gpt2(&mut rng()).unwrap());
}

/// As the AdaFisher paper trains its language model: tables from a file, blocks fresh.
#[test]
fn the_tables_of_a_file_go_into_a_decoder_with_fewer_blocks() {
    let config =
        GptConfig { vocabulary: 11, context: 7, width: 12, heads: 3, ..GptConfig::four_layers() };
    let mut model = config.build(&mut rng()).unwrap();
    let tables = from_hugging_face(read("gpt")).unwrap().translate(|name, value| {
        Ok(name.ends_with("_embed.weight").then(|| (name.to_owned(), value)))
    });
    let fresh = tables.unwrap().restore_part(&mut model).unwrap();
    assert_eq!(fresh.len(), 4 * 12);
    assert!(fresh.iter().all(|path| path.starts_with("transformer.h.")));
    assert_eq!(model.parameter_count(), 4 * (12 * 12 * 12 + 13 * 12), "the tables are not trained");
}

#[test]
fn a_mobile_net_gives_the_output_of_its_file() {
    let block = |kernel, expanded, outputs, squeeze, activation, stride| MobileBlock {
        kernel,
        expanded,
        outputs,
        squeeze,
        activation,
        stride,
    };
    let blocks = vec![
        block(3, 8, 8, true, Relu, 1),
        block(3, 16, 16, false, Relu, 2),
        block(5, 40, 16, true, HardSwish, 1),
    ];
    let config = MobileNetV3Config { stem: 8, blocks, last: 16, classes: 5, dropout: 0.2 };
    agrees_with("mobilenet_v3", config.build(&mut rng()).unwrap());
}

#[test]
fn a_vision_transformer_gives_the_output_of_its_file() {
    let config = VitConfig {
        image: 12,
        patch: 4,
        width: 12,
        depth: 2,
        heads: 3,
        classes: 5,
        stochastic_depth: 0.0,
    };
    agrees_with("vit", config.build(&mut rng()).unwrap());
}

#[test]
fn a_densely_connected_network_gives_the_output_of_its_file() {
    let config = DenseNetConfig {
        stem: Stem::ImageNet,
        first: 6,
        growth: 4,
        blocks: vec![2, 1, 2],
        bottleneck: 2,
        classes: 5,
        dropout: 0.1,
    };
    agrees_with("densenet", config.build(&mut rng()).unwrap());
}

#[test]
fn a_compact_convolutional_transformer_gives_the_output_of_its_file() {
    let config = CctConfig {
        image: 12,
        tokenizer: vec![6],
        width: 12,
        feed_forward: 24,
        classes: 5,
        ..CctConfig::default()
    };
    agrees_with("cct", config.build(&mut rng()).unwrap());
}

#[test]
fn a_recurrent_language_model_gives_the_output_of_its_file() {
    let config = LstmConfig { vocabulary: 11, width: 6, hidden: 8, layers: 2, dropout: 0.5 };
    agrees_with("lstm", config.build(&mut rng()).unwrap());
}

#[test]
fn a_shifted_window_transformer_gives_the_output_of_its_file() {
    let config = SwinConfig {
        patch: 4,
        width: 8,
        depths: vec![2, 2],
        heads: vec![2, 4],
        window: 3,
        classes: 5,
        stochastic_depth: 0.2,
    };
    agrees_with("swin", config.build(&mut rng()).unwrap());
}

#[test]
fn a_focal_modulation_network_gives_the_output_of_its_file() {
    let config = FocalNetConfig {
        width: 8,
        depths: vec![1, 2],
        levels: vec![2, 3],
        classes: 5,
        ..FocalNetConfig::default()
    };
    agrees_with("focalnet", config.build(&mut rng()).unwrap());
}

#[test]
fn a_file_of_another_model_names_all_that_is_missing_extra_or_misshapen() {
    let config = MlpConfig { inputs: 7, width: 8, depth: 4, classes: 5, ..MlpConfig::default() };
    let mut model = config.build(&mut rng()).unwrap();
    let error = read("mlp").restore(&mut model).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }));
    let text = error.to_string();
    for part in [
        "missing: layers.3.weight, layers.3.bias;",
        "layers.0.weight: expected [8, 7], got [8, 6];",
        "layers.2.weight: expected [8, 8], got [5, 8];",
        "layers.2.bias: expected [8], got [5]",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
