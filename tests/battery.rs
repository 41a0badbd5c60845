//! The battery: every optimizer with a name against every question, in one table.
//!
//! `cargo test --test battery -- --nocapture` prints it. A cell is `ok`; `ok` with a number where the bound
//! is another than the question's; a dash with a number where the question does not apply, and the notes
//! below say why; or FAIL, and the test fails. No optimizer of the registry is left out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "battery/checks.rs"]
mod checks;
#[path = "battery/hostile.rs"]
mod hostile;
#[path = "battery/landscapes.rs"]
mod landscapes;
#[path = "battery/models.rs"]
mod models;

use engine::Device;
use hostile::Kind;
use landscapes::STARTS;
use optim::known;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// It holds.
    Pass,
    /// It holds, with this difference.
    Bound(String),
    /// It does not apply, and why.
    Not(&'static str),
    /// It does not hold.
    Fail(String),
}

type Question = (&'static str, fn(&str) -> Cell);

/// Whether a hostile batch does no harm.
fn survives(name: &str, kind: Kind) -> Cell {
    hostile::survives(name, kind, Device::Cpu).map_or_else(Cell::Fail, |()| Cell::Pass)
}

/// A block of the table: 80 columns are enough for each.
const BLOCKS: [&[Question]; 2] = [
    &[
        ("bowl", landscapes::bowl),
        ("val1", |name| landscapes::rosenbrock(name, STARTS[0])),
        ("val2", |name| landscapes::rosenbrock(name, STARTS[1])),
        ("val3", |name| landscapes::rosenbrock(name, STARTS[2])),
        ("val4", |name| landscapes::rosenbrock(name, STARTS[3])),
        ("resume", checks::resume),
        ("order", checks::order),
        ("f32", checks::precision),
        ("micro", checks::micro_batches),
        ("tied", checks::tied),
        ("moves", checks::moves),
    ],
    &[
        ("zero", checks::zero),
        ("1unit", |name| checks::thin(name, 0.5)),
        ("shut", |name| checks::thin(name, -100.0)),
        ("huge", |name| survives(name, Kind::Huge)),
        ("tiny", |name| survives(name, Kind::Tiny)),
        ("NaN", |name| match checks::not_finite(name) {
            Cell::Pass => survives(name, Kind::NotANumber),
            other => other,
        }),
        ("inf", |name| survives(name, Kind::Infinite)),
        ("dead", |name| survives(name, Kind::Dead)),
        ("const", |name| survives(name, Kind::Constant)),
        ("twice", |name| survives(name, Kind::Duplicate)),
        ("one", |name| survives(name, Kind::One)),
    ],
];

/// What a cell looks like; its words, if it has any, become a note.
fn shown(cell: &Cell, notes: &mut Vec<String>) -> String {
    let (sign, words) = match cell {
        Cell::Pass => return "ok".into(),
        Cell::Fail(_) => return "FAIL".into(),
        Cell::Bound(words) => ("ok", words.as_str()),
        Cell::Not(why) => ("-", *why),
    };
    let at = notes.iter().position(|note| note == words).unwrap_or_else(|| {
        notes.push(words.to_owned());
        notes.len() - 1
    });
    format!("{sign} {}", at + 1)
}

#[test]
fn every_optimizer_answers_every_question() {
    let (mut notes, mut failures) = (Vec::new(), Vec::new());
    for block in BLOCKS {
        let line = |words: &[String]| -> String {
            let widths = block.iter().map(|(title, _)| title.len().max(4));
            words.iter().zip(widths).map(|(word, width)| format!(" {word:>width$}")).collect()
        };
        let titles: Vec<String> = block.iter().map(|(title, _)| (*title).to_owned()).collect();
        println!("{:20}{}", "", line(&titles));
        for name in known() {
            let cells: Vec<Cell> = block.iter().map(|(_, ask)| ask(name)).collect();
            let row: Vec<String> = cells.iter().map(|cell| shown(cell, &mut notes)).collect();
            println!("{name:20}{}", line(&row));
            for ((title, _), cell) in block.iter().zip(cells) {
                if let Cell::Fail(how) = cell {
                    failures.push(format!("{name}, {title}: {how}"));
                }
            }
        }
        println!();
    }
    println!("valleys 1 to 4: Rosenbrock's from {STARTS:?}");
    notes.iter().enumerate().for_each(|(at, note)| println!("{}: {note}", at + 1));
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_table_with_a_failure_says_so_and_notes_are_numbered_once() {
    let mut notes = Vec::new();
    let cells = [
        Cell::Pass,
        Cell::Not("no"),
        Cell::Bound("but".into()),
        Cell::Not("no"),
        Cell::Fail("x".into()),
    ];
    let row: Vec<String> = cells.iter().map(|cell| shown(cell, &mut notes)).collect();
    assert_eq!(row, ["ok", "- 1", "ok 2", "- 1", "FAIL"]);
    assert_eq!(notes, ["no", "but"]);
}
