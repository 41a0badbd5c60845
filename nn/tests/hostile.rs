//! What a hostile file may cost: each reader in a process of its own, whose peak memory is read and held
//! against the limit that `data::limits` states.
//!
//! `cargo test -p alcyon-nn --test hostile -- --nocapture` prints the table.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "../../tests/process/status.rs"]
mod status;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use alcyon_nn::Checkpoint;
use alcyon_nn::data::csv::{Label, Table};
use alcyon_nn::data::{Tokenizer, idx::Idx, image_folder, open_images};
use flate2::Compression;
use flate2::write::GzEncoder;
use png::{BitDepth, ColorType};

const MIB: u64 = 1 << 20;

/// A file, who reads it, and its limit: so many times its bytes, and so many bytes.
struct Case {
    name: &'static str,
    file: &'static str,
    bytes: fn() -> Vec<u8>,
    read: fn(&Path) -> String,
    limit: (u64, u64),
}

const CASES: [Case; 11] = [
    Case {
        name: "IDX, gzipped zeros",
        file: "idx.gz",
        bytes: || {
            let head = [&[0, 0, 8, 1][..], &(400 * MIB as u32).to_be_bytes()].concat();
            gzip(&head, 400)
        },
        read: |file| outcome(Idx::read(file)),
        limit: (100, 64 * MIB),
    },
    Case {
        name: "tar, gzipped zeros",
        file: "zeros.tar.gz",
        bytes: || gzip(&tar_head("train/a/1.png", 400 * MIB), 400),
        read: |file| outcome(image_folder::open(file)),
        limit: (20, 64 * MIB),
    },
    of_picture("PNG, grey, the largest", "train/a/1.png", || {
        picture(6_600, ColorType::Grayscale, BitDepth::Eight)
    }),
    of_picture("PNG, RGBA of 16 bits", "train/a/1.png", || {
        picture(4_000, ColorType::Rgba, BitDepth::Sixteen)
    }),
    of_picture("PNG, too large", "train/a/1.png", || {
        picture(8_000, ColorType::Grayscale, BitDepth::Eight)
    }),
    of_picture("JPEG, the largest", "train/a/1.jpg", || jpeg(4_700)),
    of_table("CSV, a class a row", || {
        let rows: String = (0..1_000_000).map(|i| format!("1,{i}\n")).collect();
        format!("x,c\n{rows}").into_bytes()
    }),
    of_table("CSV, only commas", || vec![b','; 20 << 20]),
    Case {
        name: "safetensors, all header",
        file: "t.safetensors",
        bytes: || {
            let entry = |i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
            let entries: Vec<String> = (0..250_000).map(entry).collect();
            let header = format!("{{{}}}", entries.join(","));
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
        },
        read: |file| outcome(Checkpoint::read(file)),
        limit: (2, 512 * MIB),
    },
    Case {
        name: "tokenizer, nested JSON",
        file: "tokenizer.json",
        bytes: || format!(r#"{{"model":{{"vocab":[{}0]}}}}"#, "[],".repeat(7 << 20)).into_bytes(),
        read: |file| outcome(Tokenizer::open(file)),
        limit: (64, 0),
    },
    Case {
        name: "CIFAR, a pickle of lists",
        file: "cifar-10-batches-py/data_batch_1",
        bytes: || vec![b']'; 32 << 20],
        read: |file| {
            let folder = file.parent().unwrap();
            for stem in
                ["data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
            {
                fs::write(folder.join(stem), b"").unwrap();
            }
            outcome(open_images("cifar10", folder.parent()))
        },
        limit: (3, 256 * MIB),
    },
];

const fn of_picture(name: &'static str, file: &'static str, bytes: fn() -> Vec<u8>) -> Case {
    Case { name, file, bytes, read: pictures, limit: (1, 256 * MIB) }
}

const fn of_table(name: &'static str, bytes: fn() -> Vec<u8>) -> Case {
    let read: fn(&Path) -> String = |file| outcome(Table::read(file, &Label::Last));
    Case { name, file: "t.csv", bytes, read, limit: (10, 256 * MIB) }
}

fn outcome<T>(read: engine::Result<T>) -> String {
    read.map_or_else(|e| e.to_string(), |_| "read".into())
}

/// Decodes the one picture of a folder.
fn pictures(file: &Path) -> String {
    let root = file.ancestors().nth(3).unwrap();
    fs::create_dir_all(root.join("val/a")).unwrap();
    fs::hard_link(file, root.join("val/a").join(file.file_name().unwrap())).unwrap();
    outcome(image_folder::open(root).and_then(|(train, _)| train.moments()))
}

fn gzip(head: &[u8], mebibytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(head).unwrap();
    (0..mebibytes).for_each(|_| encoder.write_all(&[0; 1 << 20]).unwrap());
    encoder.finish().unwrap()
}

fn tar_head(path: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn picture(side: u32, colour: ColorType, depth: BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::NoFilter);
    let of_pixel = colour.samples() * if depth == BitDepth::Sixteen { 2 } else { 1 };
    let zeros = vec![0; (side * side) as usize * of_pixel];
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&zeros).unwrap();
    writer.finish().unwrap();
    bytes
}

fn jpeg(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let zeros = vec![0; (side * side * 3) as usize];
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 50);
    encoder.encode(&zeros, side as u16, side as u16, jpeg_encoder::ColorType::Rgb).unwrap();
    bytes
}

/// What the child says before its figures.
const MARK: &str = "hostile: ";

#[test]
#[ignore = "it is the child of the other test"]
fn child_that_reads_one_file() {
    let (Ok(name), Ok(file)) = (std::env::var("ALCYON_CASE"), std::env::var("ALCYON_FILE")) else {
        return;
    };
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let before = status::bytes("VmRSS:").unwrap();
    let outcome = (case.read)(Path::new(&file));
    println!("\n{MARK}{}\t{outcome}", status::bytes("VmHWM:").unwrap().saturating_sub(before));
}

#[test]
fn no_reader_takes_more_memory_for_a_hostile_file_than_its_limit() {
    println!("{:26} {:>9} {:>9} {:>9}  outcome", "file", "MiB", "peak MiB", "limit");
    let mut above = Vec::new();
    for case in &CASES {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(case.file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let bytes = (case.bytes)();
        fs::write(&file, &bytes).unwrap();
        let size = bytes.len() as u64;
        drop(bytes);
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child_that_reads_one_file", "--ignored", "--nocapture"]);
        let child = child.env("ALCYON_CASE", case.name).env("ALCYON_FILE", &file).output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let line = said.lines().find_map(|line| line.strip_prefix(MARK));
        let Some((peak, outcome)) = line.and_then(|line| line.split_once('\t')) else {
            panic!("{}: {said}{}", case.name, String::from_utf8_lossy(&child.stderr));
        };
        let (peak, limit): (u64, u64) = (peak.parse().unwrap(), case.limit.0 * size + case.limit.1);
        let outcome = outcome.rsplit("expected ").next().unwrap_or(outcome);
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
        let outcome: String = outcome.chars().take(20).collect();
        println!("{:26} {:>9} {:>9} {:>9}  {outcome}", case.name, mib(size), mib(peak), mib(limit));
        if peak > limit {
            above.push(case.name);
        }
    }
    assert!(above.is_empty(), "above their limits: {above:?}");
}
