//! The table of all ops, `docs/ops.md`, is what the registry and the files of the ops say.
//!
//! `ALCYON_WRITE_OPS=1 cargo test --test ops_table` writes it anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test fails it")]

use std::fmt::Write as _;
use std::fs;

use engine::OpSpec;
use engine::ops::OPS;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const HEAD: &str = "# Ops

Every op of the registry (`engine/src/ops/mod.rs`) with the formula that its file begins with. All are
checked against finite differences in f64; *twice* says whether their second derivatives are too, *layer*
whether a use of a parameter in it leaves a layer record. What other ops can express is in
`engine/src/compose/` and needs no rule.

This page is written by a test: `ALCYON_WRITE_OPS=1 cargo test --test ops_table`.

| op | formula, derivative, source | layer | twice |
|---|---|---|---|
";

/// The paragraph that an op's file begins with, without the op's name.
fn formula(source: &str, name: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let text = paragraph.join(" ");
    let text = text.strip_prefix(&format!("{name}: ")).unwrap_or(&text).to_owned();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn row(spec: &OpSpec) -> String {
    let file = format!("{ROOT}/engine/src/ops/{}.rs", spec.name);
    let source = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let text = formula(&source, spec.name);
    assert!(!text.is_empty(), "{file} begins with its formula");
    let layer = if source.contains("fn layer(&self)") { "yes" } else { "" };
    let twice = if (spec.samples)().iter().all(|sample| sample.twice) { "yes" } else { "no" };
    format!("| `{}` | {text} | {layer} | {twice} |\n", spec.name)
}

#[test]
fn the_page_of_ops_says_what_the_registry_says() {
    let mut page = HEAD.to_owned();
    for spec in OPS {
        write!(page, "{}", row(spec)).unwrap();
    }
    let file = format!("{ROOT}/docs/ops.md");
    if std::env::var_os("ALCYON_WRITE_OPS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == page, "docs/ops.md is stale: ALCYON_WRITE_OPS=1 cargo test --test ops_table");
}

#[test]
fn a_formula_is_the_first_paragraph_of_a_file_without_the_name() {
    let source = "//! exp: y = eˣ.   dy/dx\n//! = y | 1.\n//!\n//! More.\nuse x;";
    assert_eq!(formula(source, "exp"), "y = eˣ. dy/dx = y \\| 1.");
}
