//! What the lessons of the course print, read as a person would: no tensor is cut off in the middle.
//!
//! The lessons that train for long are left to `.ci/run`, which runs them in release.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// They train networks.
const LONG: [&str; 5] = ["06_train", "09_adafisher", "10_shampoo", "12_mnist", "13_gpt"];

/// The numbered examples that are short, in order.
fn short_lessons() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.filter_map(|name| Some(name.to_str()?.strip_suffix(".rs")?.to_owned()));
    let mut lessons: Vec<String> = names.filter(|name| !LONG.contains(&&**name)).collect();
    lessons.sort();
    lessons
}

/// What a lesson prints, built with the profile of this test.
fn printed(lesson: &str) -> String {
    let own = std::env::current_exe().unwrap();
    let profile: PathBuf = own.parent().and_then(Path::parent).unwrap().to_owned();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", lesson]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "{lesson}");
    let output = Command::new(profile.join("examples").join(lesson)).output().unwrap();
    assert!(output.status.success(), "{lesson}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_bracket_that_a_lesson_opens_is_closed() {
    let lessons = short_lessons();
    assert!(lessons.len() >= 9, "{lessons:?}");
    for lesson in lessons {
        let text = printed(&lesson);
        let count = |bracket| text.matches(bracket).count();
        assert!(!text.is_empty(), "{lesson}");
        assert_eq!(count('['), count(']'), "{lesson} prints a tensor that is cut off:\n{text}");
    }
}
