//! The rules of the repository that no compiler checks.
//!
//! A rule is a function from files to complaints. Its test runs it over the repository, where it
//! has to be silent, and over a few lines that break it, where it has to speak: a rule that cannot
//! fail is no rule. `CONTRIBUTING.md` says the rules in words.

#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, repository, words};
use std::io;

type Complaints = Vec<String>;
type Rule = fn(&[Source]) -> Complaints;

/// Asserts that the repository obeys `rule`, and that `broken` does not.
fn check(rule: Rule, broken: &[(&str, &str)]) -> io::Result<()> {
    let complaints = rule(&repository()?);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    let broken: Vec<_> = broken.iter().map(|(path, text)| Source::new(path, text)).collect();
    assert!(!rule(&broken).is_empty(), "the rule has to notice this");
    Ok(())
}

fn find<'a>(files: &'a [Source], path: &str) -> Option<&'a Source> {
    files.iter().find(|file| file.path == path)
}

// ---- the shape of the workspace -----------------------------------------------------------------

/// Each crate, its folder, and what it may depend on: a line, a fork and a join. `nn` and `optim` never see
/// each other.
const STREET: [(&str, &str, &[&str]); 5] = [
    ("kernels", "kernels", &[]),
    ("engine", "engine", &["kernels"]),
    ("nn", "nn", &["kernels", "engine"]),
    ("optim", "optim", &["kernels", "engine"]),
    ("train", "train", &["kernels", "engine", "nn", "optim"]),
];

#[test]
fn the_walk_sees_every_crate_and_every_document() -> io::Result<()> {
    let files = repository()?;
    for (_, folder, _) in STREET {
        assert!(find(&files, &format!("{folder}/src/lib.rs")).is_some(), "{folder}/src/lib.rs");
        assert!(find(&files, &format!("{folder}/Cargo.toml")).is_some(), "{folder}/Cargo.toml");
    }
    for path in
        ["Cargo.toml", ".ci/run", "CHANGELOG.md", "tests/fuzz/src/lib.rs", "kernels/src/pool.rs"]
    {
        assert!(find(&files, path).is_some(), "{path}");
    }
    Ok(())
}

fn imports_against_the_rooms(files: &[Source]) -> Complaints {
    rooms::against_the_order(files).0
}

#[test]
fn a_room_of_optim_imports_only_from_rooms_below_it() -> io::Result<()> {
    let (_, seen) = rooms::against_the_order(&repository()?);
    println!("{seen} imports between rooms");
    assert!(seen > 200, "{seen}: the rule no longer sees the rooms");
    for text in ["use crate::{a, frame::{b, rule}};", "fn f() { super::super::layer::kfac::f() }"] {
        check(imports_against_the_rooms, &[("optim/src/algebra/dense.rs", text)])?;
    }
    check(imports_against_the_rooms, &[("optim/src/layer/kfac.rs", "use crate::matrix::soap;")])
}

fn dependencies_against_the_street(files: &[Source]) -> Complaints {
    let mut complaints = Complaints::new();
    for (krate, folder, allowed) in STREET {
        let Some(manifest) = find(files, &format!("{folder}/Cargo.toml")) else { continue };
        let mut in_dependencies = false;
        for line in manifest.text.lines() {
            if line.starts_with('[') {
                in_dependencies = words(line).any(|word| word == "dependencies");
            }
            // A crate's tests may ask for its own features.
            for (other, _, _) in STREET.into_iter().filter(|(other, ..)| *other != krate) {
                if in_dependencies && !allowed.contains(&other) && words(line).any(|w| w == other) {
                    complaints.push(format!("{krate} must not depend on {other}: {line}"));
                }
            }
        }
    }
    complaints
}

#[test]
fn crates_depend_only_on_what_is_upstream_of_them() -> io::Result<()> {
    let rule = dependencies_against_the_street;
    check(rule, &[("nn/Cargo.toml", "[dev-dependencies]\noptim.workspace = true")])?;
    check(rule, &[("engine/Cargo.toml", "[dependencies.net]\npackage = \"alcyon-nn\"")])?;
    check(rule, &[("kernels/Cargo.toml", "[dependencies]\nx = { path = \"../engine\" }")])
}

/// The bindings' version has to go with the crates: a setting of this checkout does not reach those who depend on
/// them (decision 0001).
fn bindings_chosen_by_the_machine(files: &[Source]) -> Complaints {
    let mut complaints = Complaints::new();
    let Some(manifest) = find(files, "Cargo.toml") else { return complaints };
    let cudarc = manifest.text.split("\ncudarc").nth(1).and_then(|rest| rest.split('}').next());
    let versions = cudarc.unwrap_or_default().matches("\"cuda-1").count();
    if versions != 1 || cudarc.is_some_and(|text| text.contains("from-build-system")) {
        complaints
            .push("Cargo.toml: cudarc needs one feature `cuda-…`, its bindings' version".into());
    }
    complaints
}

/// Sections of this checkout's `.cargo/config.toml` that change what is built: a crate that depends on these
/// crates does not see them.
fn settings_that_dependents_lack(files: &[Source]) -> Complaints {
    let config = files.iter().filter(|file| file.path == ".cargo/config.toml");
    let sections = config.flat_map(|file| file.text.lines().filter(|line| line.starts_with('[')));
    let others = sections.filter(|section| *section != "[alias]");
    others.map(|section| format!(".cargo/config.toml: dependents do not see {section}")).collect()
}

#[test]
fn nothing_that_is_built_depends_on_settings_of_this_checkout() -> io::Result<()> {
    let rule = settings_that_dependents_lack;
    check(rule, &[(".cargo/config.toml", "[alias]\n[env]\nCUDARC_CUDA_VERSION = \"13000\"\n")])?;
    check(rule, &[(".cargo/config.toml", "[build]\nrustflags = []\n")])
}

#[test]
fn the_version_of_the_cuda_bindings_is_a_feature_of_the_dependency() -> io::Result<()> {
    let rule = bindings_chosen_by_the_machine;
    check(rule, &[("Cargo.toml", "\ncudarc = { features = [\"std\"] }")])?;
    check(
        rule,
        &[(
            "Cargo.toml",
            "\ncudarc = { features = [\"cuda-13000\", \"cuda-version-from-build-system\"] }",
        )],
    )
}

fn undecided_dependencies(files: &[Source]) -> Complaints {
    // The fuzzer's crate is no member, and has a list of its own.
    let lists =
        [("Cargo.toml", "[workspace.dependencies]"), ("tests/fuzz/Cargo.toml", "[dependencies]")];
    let list = |(manifest, head): &(&str, &str)| {
        let list = find(files, manifest)?.text.split(*head).nth(1)?;
        list.split("\n[").next()
    };
    let lines = lists.iter().filter_map(list).flat_map(str::lines);
    let names = lines.filter(|line| !line.contains("path =") && !line.starts_with(' '));
    let names = names.filter_map(|line| Some(line.split_once('=')?.0.trim()));
    let decided = |name: &str| {
        let mut decisions = files.iter().filter(|file| file.is_in("docs/decisions/", ".md"));
        decisions.any(|page| page.text.contains(&format!("`{name}`")))
    };
    names
        .filter(|name| !decided(name))
        .map(|name| format!("no page in docs/decisions names the dependency `{name}`"))
        .collect()
}

#[test]
fn every_dependency_has_been_decided_on_a_page() -> io::Result<()> {
    let rule = undecided_dependencies;
    check(rule, &[("Cargo.toml", "[workspace.dependencies]\nleftpad = \"1\"\n")])?;
    check(rule, &[("tests/fuzz/Cargo.toml", "[dependencies]\nleftpad = \"1\"\n")])
}

// ---- code ---------------------------------------------------------------------------------------

fn unsafe_above_the_kernels(files: &[Source]) -> Complaints {
    let may = |file: &Source| {
        file.path.starts_with("kernels/") || file.path == "engine/src/storage/cuda.rs"
    };
    files
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !may(file))
        .filter(|file| words(&file.code()).any(|word| word == "unsafe"))
        .map(|file| format!("{}: unsafe code belongs in kernels/", file.path))
        .collect()
}

#[test]
fn unsafe_code_stays_in_the_kernels_and_the_one_launch_wrapper() -> io::Result<()> {
    let text = "/* a string: */ const S: &str = \"\\\" no\"; fn f<'a>() { unsafe { g('\"') } }";
    check(unsafe_above_the_kernels, &[("optim/src/first_order/sgd.rs", text)])
}

#[test]
fn the_word_in_a_comment_or_a_string_is_not_code() {
    for text in
        ["// unsafe", "/// unsafe\nfn f() {}", "\"an \\\" unsafe\"", "r#\"\" unsafe\"#", "'\"'"]
    {
        assert!(
            unsafe_above_the_kernels(&[Source::new("nn/src/init.rs", text)]).is_empty(),
            "{text}"
        );
    }
}

fn crates_without_their_lint_on_unsafe(files: &[Source]) -> Complaints {
    let heads = [
        ("engine/src/lib.rs", "#![deny(unsafe_code)]"),
        ("nn/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("optim/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("train/src/lib.rs", "#![forbid(unsafe_code)]"),
    ];
    heads
        .iter()
        .filter_map(|(path, head)| Some((find(files, path)?.code(), path, head)))
        .filter(|(code, _, head)| !code.trim().is_empty() && !code.contains(*head))
        .map(|(_, path, head)| format!("{path}: lacks {head}"))
        .collect()
}

#[test]
fn the_crates_above_the_kernels_refuse_unsafe_code_themselves() -> io::Result<()> {
    check(crates_without_their_lint_on_unsafe, &[("nn/src/lib.rs", "pub mod init;")])
}

/// `TO``DO` and its kind, in pieces so that this file does not catch itself.
const PROMISES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

fn promises_without_an_issue(files: &[Source]) -> Complaints {
    let numbered = |line: &str| {
        line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut complaints = Complaints::new();
    for file in files.iter().filter(|file| !file.path.ends_with(".md")) {
        for (at, line) in file.text.lines().enumerate() {
            if words(line).any(|word| PROMISES.contains(&word)) && !numbered(line) {
                complaints.push(format!("{}:{}: name the issue (#123)", file.path, at + 1));
            }
        }
    }
    complaints
}

#[test]
fn what_is_left_to_do_names_its_issue() -> io::Result<()> {
    let promise = format!("// {}: later", PROMISES[0]);
    check(promises_without_an_issue, &[("kernels/src/softmax.rs", &promise)])?;
    let numbered =
        Source::new("kernels/src/softmax.rs", &format!("// {}(#12): later", PROMISES[1]));
    assert!(promises_without_an_issue(&[numbered]).is_empty());
    Ok(())
}

/// No file of a library is longer than this (blank lines not counted).
const LONGEST_FILE: usize = 450;

fn files_that_are_too_long(files: &[Source]) -> Complaints {
    let library = |file: &&Source| {
        STREET.iter().any(|(_, folder, _)| file.is_in(&format!("{folder}/src/"), ".rs"))
    };
    files
        .iter()
        .filter(library)
        .map(|file| (file, file.non_blank_lines()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(file, lines)| format!("{}: {lines} lines hide a second idea", file.path))
        .collect()
}

#[test]
fn no_library_file_hides_a_second_idea() -> io::Result<()> {
    check(files_that_are_too_long, &[("nn/src/init.rs", &"let x = 1;\n".repeat(LONGEST_FILE + 1))])
}

fn names_that_say_nothing(files: &[Source]) -> Complaints {
    let empty = ["util", "utils", "common", "misc", "base", "helper", "helpers", "stuff"];
    files
        .iter()
        .filter(|file| file.path.split(['/', '.']).any(|part| empty.contains(&part)))
        .map(|file| format!("{}: name the idea, not the shelf", file.path))
        .collect()
}

#[test]
fn files_are_named_after_what_is_in_them() -> io::Result<()> {
    check(names_that_say_nothing, &[("engine/src/utils.rs", "")])?;
    check(names_that_say_nothing, &[("nn/src/common/mod.rs", "")])
}

fn tests_without_a_sentence(files: &[Source]) -> Complaints {
    let mut complaints = Complaints::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let code = file.code();
        for test in code.split("#[test]").skip(1) {
            let mut after_fn = words(test).skip_while(|word| *word != "fn").skip(1);
            let name = after_fn.next().unwrap_or_default();
            if !name.contains('_') || name.starts_with("test_") {
                complaints.push(format!("{}: the test `{name}` states no truth", file.path));
            }
        }
    }
    complaints
}

#[test]
fn the_name_of_a_test_is_a_sentence() -> io::Result<()> {
    check(tests_without_a_sentence, &[("nn/src/init.rs", "#[test]\nfn init() {}")])?;
    check(tests_without_a_sentence, &[("nn/src/init.rs", "#[test]\nfn test_that_init_works() {}")])
}

// ---- ops, optimizers, kernels -------------------------------------------------------------------

/// Files of the ops folder that are not ops: what several op files share.
const SHARED_BY_OPS: [&str; 2] = ["elementwise", "norm"];

/// The names between the braces of `operations! { … }`.
fn registry(code: &str) -> Vec<&str> {
    let list = code.split("operations! {").nth(1).unwrap_or_default();
    words(list.split('}').next().unwrap_or_default()).collect()
}

fn ops_unlike_the_registry(files: &[Source]) -> Complaints {
    let Some(module) = find(files, "engine/src/ops/mod.rs") else { return Complaints::new() };
    let code = module.code();
    let registered = registry(&code);
    let folder = files.iter().filter(|file| file.is_in("engine/src/ops/", ".rs"));
    let present: Vec<_> = folder.map(Source::stem).filter(|stem| *stem != "mod").collect();
    let lost = present.iter().filter(|op| !registered.contains(op) && !SHARED_BY_OPS.contains(op));
    let lost = lost.map(|op| format!("engine/src/ops/{op}.rs is not in `operations!`"));
    let gone = registered.iter().filter(|op| !present.contains(op));
    lost.chain(gone.map(|op| format!("the op `{op}` has no file of its name"))).collect()
}

#[test]
fn the_ops_folder_and_the_registry_list_the_same_ops() -> io::Result<()> {
    let module = ("engine/src/ops/mod.rs", "//! operations! { sub }\noperations! { add, mul }");
    let (add, mul) = (("engine/src/ops/add.rs", ""), ("engine/src/ops/mul.rs", ""));
    check(ops_unlike_the_registry, &[module, add])?;
    check(ops_unlike_the_registry, &[module, add, mul, ("engine/src/ops/sub.rs", "")])
}

fn ops_with_parts_out_of_order(files: &[Source]) -> Complaints {
    let parts = ["fn shape(", "fn cpu(", "fn cuda(", "fn backward("];
    let mut complaints = Complaints::new();
    for file in files.iter().filter(|file| file.is_in("engine/src/ops/", ".rs")) {
        let code = file.code();
        for op in code.split("impl Op for").skip(1) {
            let found: Vec<_> = parts.iter().filter_map(|part| op.find(part)).collect();
            if !found.is_sorted() {
                complaints.push(format!("{}: not in the order {}", file.path, parts.join(" ")));
            }
        }
    }
    complaints
}

#[test]
fn the_parts_of_an_op_come_in_one_order() -> io::Result<()> {
    let text = "impl Op for Add { fn cpu(&self) {} fn shape(&self) {} }";
    check(ops_with_parts_out_of_order, &[("engine/src/ops/add.rs", text)])
}

/// Whether a header names an author and a year ("Martens & Grosse 2015"), or an arXiv number.
fn cites_a_source(header: &str) -> bool {
    let words: Vec<_> = words(header).collect();
    let is_year = |word: &str| {
        word.len() == 4
            && (word.starts_with("19") || word.starts_with("20"))
            && word.chars().all(|c| c.is_ascii_digit())
    };
    let author = |word: &&str| word.starts_with(char::is_uppercase) || *word == "al";
    let cited = (0..words.len())
        .any(|at| is_year(words[at]) && words[at.saturating_sub(2)..at].iter().any(author));
    cited || header.contains("arXiv")
}

fn optimizers_without_a_source(files: &[Source]) -> Complaints {
    let is_optimizer = |file: &&Source| {
        let code = file.code();
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        let kinds = ["Optimizer for ", "Rule for "];
        let is = |line: &str| kinds.iter().any(|kind| line.contains(kind));
        code.lines().any(|line| line.starts_with("impl") && is(line))
    };
    let header = |file: &Source| file.text.lines().take(12).collect::<Vec<_>>().join("\n");
    files
        .iter()
        .filter(|file| file.is_in("optim/src/", ".rs"))
        .filter(is_optimizer)
        .filter(|file| !cites_a_source(&header(file)))
        .map(|file| format!("{}: the first lines cite no source (author, year)", file.path))
        .collect()
}

#[test]
fn every_optimizer_begins_with_its_source() -> io::Result<()> {
    let text = "//! Our own idea of 2025.\nimpl Optimizer for Best {}";
    check(optimizers_without_a_source, &[("optim/src/best.rs", text)])?;
    let text = "//! Our own idea of 2025.\nimpl LayerRule for BestConfig {}";
    check(optimizers_without_a_source, &[("optim/src/best.rs", text)])?;
    for source in ["Polyak 1964", "Gupta et al. 2018", "Kingma & Ba (2015)", "arXiv 2405.16397"] {
        assert!(cites_a_source(source), "{source}");
    }
    Ok(())
}

fn cuda_text_without_its_rust_file(files: &[Source]) -> Complaints {
    let twin = |cu: &Source| {
        let file = format!("/{}.rs", cu.stem());
        let folder = format!("/{}/mod.rs", cu.stem());
        files
            .iter()
            .any(|rust| rust.is_in("kernels/src/", &file) || rust.is_in("kernels/src/", &folder))
    };
    files
        .iter()
        .filter(|file| file.path.ends_with(".cu") && !twin(file))
        .map(|file| format!("{}: no Rust file of this name in kernels/src", file.path))
        .collect()
}

#[test]
fn every_cuda_file_has_the_rust_file_of_its_name() -> io::Result<()> {
    check(cuda_text_without_its_rust_file, &[("kernels/cuda/softmax.cu", "")])
}

// ---- examples and documents ---------------------------------------------------------------------

/// The numbered examples, `examples/07_layer_record.rs`, with their numbers.
fn course(files: &[Source]) -> Vec<(usize, &Source)> {
    let number = |file: &Source| file.stem().split_once('_')?.0.parse().ok();
    let examples = files.iter().filter(|file| file.is_in("examples/", ".rs"));
    examples.filter_map(|file| Some((number(file)?, file))).collect()
}

fn gaps_in_the_course(files: &[Source]) -> Complaints {
    let course = course(files).into_iter().enumerate();
    course
        .filter(|(place, (number, file))| {
            place != number || !file.stem().starts_with(&format!("{number:02}_"))
        })
        .map(|(place, (_, file))| format!("{}: the next example is {place:02}_…", file.path))
        .collect()
}

#[test]
fn the_examples_are_numbered_without_gaps() -> io::Result<()> {
    check(gaps_in_the_course, &[("examples/00_scalar.rs", ""), ("examples/02_ops.rs", "")])?;
    check(gaps_in_the_course, &[("examples/0_scalar.rs", "")])
}

fn lessons_that_are_too_long(files: &[Source]) -> Complaints {
    let course = course(files).into_iter().filter(|(_, file)| file.non_blank_lines() > 150);
    course.map(|(_, file)| format!("{}: a lesson has 150 lines at most", file.path)).collect()
}

#[test]
fn a_numbered_example_is_one_lesson() -> io::Result<()> {
    check(lessons_that_are_too_long, &[("examples/00_scalar.rs", &"x;\n".repeat(151))])
}

fn changelog_without_unreleased_part(files: &[Source]) -> Complaints {
    let unreleased =
        |file: &Source| file.text.lines().any(|line| line.starts_with("## Unreleased"));
    match find(files, "CHANGELOG.md") {
        Some(changelog) if unreleased(changelog) => Complaints::new(),
        _ => vec!["CHANGELOG.md: `## Unreleased` is missing".to_owned()],
    }
}

#[test]
fn the_changelog_has_an_unreleased_part() -> io::Result<()> {
    check(changelog_without_unreleased_part, &[("CHANGELOG.md", "## 0.1.0\n")])
}

fn untidy_decisions(files: &[Source]) -> Complaints {
    let index = find(files, "docs/decisions/README.md").map_or("", |file| &file.text);
    let pages = files.iter().filter(|file| file.is_in("docs/decisions/0", ".md"));
    let mut complaints = Complaints::new();
    for (place, page) in pages.enumerate() {
        let mut complain = |what: &str| complaints.push(format!("{}: {what}", page.path));
        if !page.stem().starts_with(&format!("{:04}-", place + 1)) {
            complain("the numbers have a gap or a double");
        }
        if !index.contains(&format!("({}.md)", page.stem())) {
            complain("not in the index, docs/decisions/README.md");
        }
        for part in ["Context", "Options", "Decision", "Consequences", "Revisit when"] {
            if !page.text.lines().any(|line| line == format!("## {part}")) {
                complain(&format!("lacks `## {part}`"));
            }
        }
    }
    complaints
}

#[test]
fn decisions_are_numbered_indexed_and_complete() -> io::Result<()> {
    let whole = "## Context\n## Options\n## Decision\n## Consequences\n## Revisit when\n";
    let index = ("docs/decisions/README.md", "[1](0001-a.md) [3](0003-c.md)");
    check(untidy_decisions, &[index, ("docs/decisions/0001-a.md", "## Context")])?;
    check(untidy_decisions, &[index, ("docs/decisions/0003-c.md", whole)])?;
    check(untidy_decisions, &[("docs/decisions/0001-a.md", whole)])
}

/// Paths in backticks that end in `.rs`; `NAME.rs` and the like are patterns, not files.
fn named_files(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|path| {
        path.ends_with(".rs") && path.contains('/') && !path.contains(|c: char| c.is_uppercase())
    })
}

fn documents_that_name_a_missing_file(files: &[Source]) -> Complaints {
    // A crate whose lib.rs holds no code yet is still on paper.
    let written = |path: &str| {
        let krate = path.split('/').next().unwrap_or_default();
        let lib = find(files, &format!("{krate}/src/lib.rs"));
        lib.is_none_or(|lib| !lib.code().trim().is_empty())
    };
    let mut complaints = Complaints::new();
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let Some(page) = find(files, page) else { continue };
        for path in named_files(&page.text) {
            if written(path) && find(files, path).is_none() {
                complaints.push(format!("{}: there is no {path}", page.path));
            }
        }
    }
    complaints
}

#[test]
fn the_files_that_the_documents_name_exist() -> io::Result<()> {
    check(documents_that_name_a_missing_file, &[("README.md", "read `engine/src/gone.rs` first")])
}

fn long_architecture(files: &[Source]) -> Complaints {
    let page = find(files, "ARCHITECTURE.md").filter(|page| page.text.lines().count() > 250);
    page.map(|_| "ARCHITECTURE.md: 250 lines at most".to_owned()).into_iter().collect()
}

#[test]
fn the_architecture_fits_one_sitting() -> io::Result<()> {
    check(long_architecture, &[("ARCHITECTURE.md", &"line\n".repeat(251))])
}
