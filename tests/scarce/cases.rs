//! What takes memory in proportion to a file, a shape or a setting.

use std::fs;
use std::path::Path;

use alcyon::nn::checkpoint::{self, Checkpoint};
use alcyon::nn::data::augment::PadCrop;
use alcyon::nn::data::csv::{Label, Table};
use alcyon::nn::data::idx::Idx;
use alcyon::nn::data::{self, Images, TokenWindows, Tokenizer, image_folder};
use alcyon::optim::{self, Batch};
use alcyon::prelude::*;

/// What is done while memory is scarce; its inputs are there before.
type Run = Box<dyn Fn() -> Result<()>>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Writes the files that it wants to a folder, and makes its inputs.
    pub(crate) prepare: fn(&Path) -> Run,
}

/// The case of a name: one of [`CASES`], or a step of an optimizer.
pub(crate) fn prepared(name: &str, dir: &Path) -> Run {
    match CASES.iter().find(|case| case.name == name) {
        Some(case) => (case.prepare)(dir),
        None => step(name.to_owned()),
    }
}

/// The names of all.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|case| case.name).chain(optim::known())
}

const CASES: &[Case] = &[
    Case { name: "IDX", prepare: idx },
    Case { name: "CSV, numbers", prepare: csv },
    Case { name: "safetensors, read", prepare: safetensors },
    Case { name: "safetensors, written", prepare: safetensors_written },
    Case { name: "a picture", prepare: picture },
    Case {
        name: "images as a data set",
        prepare: |_| {
            let images = images(32, 2_000);
            Box::new(move || images.dataset().map(drop))
        },
    },
    Case {
        name: "images augmented",
        prepare: |_| {
            let images = images(512, 8).augmented().then(PadCrop { padding: 4 });
            Box::new(move || {
                let batch = Loader::new(&images, 8)?.in_order().next();
                batch.map_or(Ok(()), |batch| batch.map(drop))
            })
        },
    },
    Case {
        name: "images by their places",
        prepare: |_| {
            let images = images(1, 1_000_000);
            Box::new(move || images.range(0, 999_999).map(drop))
        },
    },
    Case {
        name: "a text in parts",
        prepare: |dir| {
            let file = dir.join("text").display().to_string();
            fs::write(&file, text()).unwrap();
            Box::new(move || data::open_text(&file, None).map(drop))
        },
    },
    Case { name: "a text as bytes", prepare: |_| encoding(|_| Ok(Tokenizer::bytes())) },
    Case {
        name: "a text as characters",
        prepare: |_| encoding(|text| Ok(Tokenizer::characters(&text[..1000]))),
    },
    Case {
        name: "a text as words",
        prepare: |_| encoding(|text| Ok(Tokenizer::words(&text[..1000], 20))),
    },
    Case {
        name: "a text as pairs",
        prepare: |_| encoding(|text| Tokenizer::train_bpe(&text[..1000], 260)),
    },
    Case {
        name: "a text from tokens",
        prepare: |_| {
            let tokens = vec![65; 2 << 20];
            Box::new(move || Tokenizer::bytes().decode(&tokens).map(drop))
        },
    },
    Case {
        name: "windows of tokens",
        prepare: |_| {
            let tokens = vec![7; 1 << 20];
            Box::new(move || {
                let windows = TokenWindows::random(&tokens, 1 << 19)?;
                Loader::new(&windows, 1)?.in_order().next().transpose().map(drop)
            })
        },
    },
    Case {
        name: "a large vocabulary",
        prepare: |_| {
            Box::new(|| data::bigram_perplexity(&[0, 1, 0, 1], &[0, 1], 4 << 20).map(drop))
        },
    },
    Case {
        name: "numbers that are read",
        prepare: |_| {
            let x = Tensor::zeros([1 << 20], DType::F32);
            Box::new(move || x.to_f64_vec().map(drop))
        },
    },
    Case {
        name: "a copied slice",
        prepare: |_| {
            let numbers = vec![1.0_f32; 1 << 20];
            Box::new(move || Tensor::from_slice(&numbers, [1 << 20]).map(drop))
        },
    },
    Case {
        name: "an order",
        prepare: |_| {
            let x = Tensor::zeros([1 << 20], DType::F32);
            Box::new(move || x.argsort(0, true).map(drop))
        },
    },
    Case {
        name: "sums along an axis",
        prepare: |_| {
            let x = Tensor::zeros([2, 1 << 20], DType::F32);
            Box::new(move || x.cumsum(0).map(drop))
        },
    },
];

fn idx(dir: &Path) -> Run {
    let file = dir.join("idx");
    let head = [&[0, 0, 8, 1][..], &(8_u32 << 20).to_be_bytes()].concat();
    fs::write(&file, [head, vec![0; 8 << 20]].concat()).unwrap();
    Box::new(move || Idx::read(&file).map(drop))
}

fn csv(dir: &Path) -> Run {
    let file = dir.join("table.csv");
    let head: String = (0..99).map(|i| format!("x{i},")).collect();
    let row = format!("{}0\n", "1,".repeat(99));
    fs::write(&file, format!("{head}c\n{}", row.repeat(20_000))).unwrap();
    Box::new(move || Table::read(&file, &Label::Last).map(drop))
}

fn safetensors(dir: &Path) -> Run {
    let file = dir.join("model");
    let model = Linear::new(2048, 1024, &mut Rng::new(0));
    checkpoint::save(&file, &model, &[].into(), &[].into()).unwrap();
    Box::new(move || Checkpoint::read(&file).map(drop))
}

fn safetensors_written(dir: &Path) -> Run {
    let file = dir.join("model");
    let model = Linear::new(2048, 1024, &mut Rng::new(0));
    Box::new(move || checkpoint::save(&file, &model, &[].into(), &[].into()))
}

fn picture(dir: &Path) -> Run {
    let (mut bytes, side) = (Vec::new(), 2_000);
    let zeros = vec![0; 3 * (side * side) as usize];
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&zeros).unwrap();
    writer.finish().unwrap();
    for split in ["train", "val"] {
        fs::create_dir_all(dir.join(split).join("a")).unwrap();
        fs::write(dir.join(split).join("a/1.png"), &bytes).unwrap();
    }
    let dir = dir.to_owned();
    Box::new(move || image_folder::open(&dir)?.0.in_memory().map(drop))
}

fn images(side: usize, count: usize) -> Images {
    let bytes = vec![7; count * 3 * side * side];
    Images::new("noise", [3, side, side], bytes, vec![0; count], &["one"]).unwrap()
}

/// 2 million bytes in lines.
fn text() -> String {
    "a line of nine different words, or thereabouts\n".repeat(40_000)
}

fn encoding(tokenizer: impl FnOnce(&str) -> Result<Tokenizer>) -> Run {
    let text = text();
    let tokenizer = tokenizer(&text).unwrap();
    Box::new(move || tokenizer.encode(&text).map(drop))
}

/// A step of a new optimizer on a layer with a bias, small where a matrix of all parameters is kept.
fn step(name: String) -> Run {
    let width = match name.as_str() {
        "newton" | "natural-gradient" => 30,
        _ => 400,
    };
    let x = Tensor::normal([8, width], 0.0, 1.0, DType::F32, &mut Rng::new(0));
    let labels = Tensor::random_indices([8], width, &mut Rng::new(1)).unwrap();
    let loss = CrossEntropy::new(&labels);
    Box::new(move || {
        let mut model = Linear::new(width, width, &mut Rng::new(2));
        let mut optimizer = optim::build(&name, None)?;
        let forward = |model: &Linear, tape: &Tape| model.forward(&tape.input(x.clone()));
        optimizer.minimize(&mut Batch::new(&mut model, forward, &loss).training(0)).map(drop)
    })
}
