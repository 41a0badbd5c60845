//! Replays golden numbers: trajectories, factors and curvatures that other programs computed.
//!
//! `ALCYON_GOLDEN=folder cargo test --release --test golden -- --nocapture` replays every JSON
//! file of a folder and prints one line for each run in it. Without the variable the folder is
//! `tests/golden/data`. What a file holds is told by its `schema` and `name`; models and
//! hyper-parameters come from the file itself, so that a new file of a known schema needs no new
//! code.
//!
//! | to see … | open |
//! |---|---|
//! | how a file is read | `document.rs` |
//! | what agreement means | `report.rs` |
//! | that no member of a file is forgotten | `expected.rs` |
//! | how a network is built from a description | `network.rs` |
//! | the replays | the other files |

mod adafisher;
mod adafisher_options;
mod curvature;
mod document;
mod expected;
mod first_order;
mod hessian_diagonal;
mod kfac;
mod kfac_shared;
mod kronecker;
mod layerwise;
mod matrices;
mod network;
mod report;
mod running_average;
mod shampoo;
mod trajectory;

use std::path::{Path, PathBuf};

use document::{Document, Failure, Result, wrong};
use report::{Line, Report};

/// Replays one file: its lines, or the reason why there are none.
type Replay = fn(file: &str, &Document) -> Result<Vec<Line>>;

/// The families of the schema `golden-v1`: a name begins with its family's. The first that fits
/// counts.
const FAMILIES: [(&str, Replay); 20] = [
    ("sgd_", first_order::sgd),
    ("adam_", first_order::adam),
    ("adamw_", first_order::adamw),
    ("adafactor_", first_order::adafactor),
    ("prodigy_", first_order::prodigy),
    ("adahessian_", hessian_diagonal::adahessian),
    ("sophia_", hessian_diagonal::sophia),
    ("muon_", matrices::muon),
    ("soap_", matrices::soap),
    ("splus_", matrices::splus),
    ("shampoo_", shampoo::replay),
    ("kfac_linear_mse", kfac::linear_mse),
    ("kfac_mlp_ce", kfac::mlp_ce),
    ("kfac_conv_ce", kfac_shared::conv_ce),
    ("kfac_tokens_ce", kfac_shared::tokens_ce),
    ("kfac_optimizer_steps", kfac::optimizer_steps),
    ("kfac_family_onelayer", layerwise::family),
    ("kfac_ema", running_average::replay),
    ("curvature_", curvature::replay),
    ("", not_yet),
];

fn not_yet(_file: &str, document: &Document) -> Result<Vec<Line>> {
    Err(Failure::NotYet(document.root().get("name")?.text()?.to_owned()))
}

/// The lines of a file. Whatever is wrong with it becomes a line, too; even a panic, so that it
/// does not hide the files that follow.
fn replay(path: &Path) -> Vec<Line> {
    let file = path.file_stem().unwrap_or_default().to_string_lossy();
    let lines = std::panic::catch_unwind(|| {
        Document::open(path).and_then(|document| dispatch(&file, &document))
    });
    let lines = lines.unwrap_or_else(|_| wrong("a panic; its message is above"));
    lines.unwrap_or_else(|failure| vec![Line::new(&file, "", Err(failure))])
}

fn dispatch(file: &str, document: &Document) -> Result<Vec<Line>> {
    match document.root().get("schema")?.text()? {
        "adafisher-golden/1" => adafisher::replay(file, document),
        "golden-v1" => {
            let name = document.root().get("name")?.text()?;
            let family = FAMILIES.iter().find(|(family, _)| name.starts_with(family));
            family.map_or(not_yet as Replay, |(_, replay)| *replay)(file, document)
        }
        schema => wrong(format!("the schema `{schema}` is not known")),
    }
}

/// The JSON files of a folder, by name.
fn golden_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = read.or_else(|e| wrong(format!("{}: {e}", folder.display())))?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let mut files: Vec<_> = paths.filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    if files.is_empty() {
        return wrong(format!("{}: no JSON file there", folder.display()));
    }
    Ok(files)
}

/// The folder in the environment, seen from the repository's root, or the one that is shipped.
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = || root.join("tests/golden/data");
    std::env::var_os("ALCYON_GOLDEN").map_or_else(shipped, |given| root.join(given))
}

#[test]
fn every_golden_file_is_reproduced_within_its_tolerance() {
    let files = golden_files(&folder()).unwrap_or_else(|failure| panic!("{failure:?}"));
    let mut report = Report::default();
    for file in &files {
        report.extend(replay(file));
    }
    println!("{report}");
    let failures = report.failures();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_shipped_files_are_not_merely_skipped() {
    let files = golden_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data"));
    let mut report = Report::default();
    for file in &files.unwrap() {
        report.extend(replay(file));
    }
    assert!(report.agreeing() >= 30, "{report}");
}

#[test]
fn a_folder_that_is_missing_or_holds_no_golden_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(golden_files(folder.path()), Err(Failure::Wrong(_))));
    assert!(matches!(golden_files(&folder.path().join("nowhere")), Err(Failure::Wrong(_))));
}

#[test]
fn a_malformed_file_becomes_a_line_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data/thesis_mlp.json"),
    )
    .unwrap();
    let broken = [
        ("cut", whole[..whole.len() / 2].to_owned()),
        ("kind", whole.replace("\"schema\":\"adafisher-golden/1\"", "\"schema\":\"other\"")),
        ("number", whole.replacen("\"in_features\":4", "\"in_features\":5", 1)),
        ("shape", whole.replacen("\"shape\":[6,4]", "\"shape\":[4,4]", 1)),
        ("step", whole.replace("\"loss\":1", "\"loss\":2")),
        ("empty", "{}".to_owned()),
        ("list", "[]".to_owned()),
    ];
    for (name, text) in broken {
        let path = folder.path().join(format!("{name}.json"));
        assert_ne!(text, whole, "{name}");
        std::fs::write(&path, text).unwrap();
        let lines = replay(&path);
        assert!(lines.iter().any(|line| !line.passes()), "{name}: {lines:?}");
    }
}

#[test]
fn a_wrong_golden_number_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data/sgd_steps.json");
    let text = std::fs::read_to_string(data).unwrap();
    let path = folder.path().join("sgd_steps.json");
    std::fs::write(&path, text.replacen("\"lr\":0.1", "\"lr\":0.1001", 1)).unwrap();
    assert!(replay(&path).iter().any(|line| !line.passes()));
}
