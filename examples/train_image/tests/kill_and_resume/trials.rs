//! Kills, damage and company, at places that a seed decides; and the table of what came of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alcyon::train::Run;

use crate::contents::{contents, parts};
use crate::program::{Program, copy, end, rows, saved, signal, tensors};

/// Places and moments that follow from a seed: Steele, Lea & Flood 2014 (SplitMix64).
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ x >> 31) % bound
    }
}

/// What came of trials of one kind.
pub(crate) struct Tally {
    what: &'static str,
    trials: u64,
    /// Those after which the run ended with the bits of one that nobody disturbed.
    same: u64,
    /// Those in which an older snapshot was used, and said.
    older: u64,
    /// Those that were refused with the file's name and the way out.
    refused: u64,
}

impl Tally {
    const fn of(what: &'static str) -> Self {
        Self { what, trials: 0, same: 0, older: 0, refused: 0 }
    }
}

/// Prints them in 80 columns.
pub(crate) fn print(tallies: &[Tally]) {
    let line = |what: &str, rest: [String; 4]| {
        let [trials, same, older, refused] = rest;
        println!("{what:<34} {trials:>7} {same:>10} {older:>12} {refused:>12}");
    };
    println!();
    line("", ["trials", "same end", "older used", "refused"].map(str::to_owned));
    for tally in tallies {
        let counts = [tally.trials, tally.same, tally.older, tally.refused];
        line(tally.what, counts.map(|n| n.to_string()));
    }
}

/// Kills a run again and again, at random moments, until it has been killed often enough and has ended as often as
/// it came to its end.
pub(crate) fn kills(program: &Program, dir: &Path, each: u64, draws: &mut Draws) -> Vec<Tally> {
    let whole = dir.join("whole");
    assert!(program.run(&whole, &[]).status.success());
    let ending = (tensors(&whole), rows(&whole, program.steps));
    let mut tallies = [Tally::of("kill -9"), Tally::of("kill -INT"), Tally::of("kill -TERM")];
    let names = ["KILL", "INT", "TERM"];
    let mut folders = (0..).map(|n| dir.join(format!("killed-{n}")));
    let mut folder = folders.next().unwrap();
    for trial in 0..3 * each {
        let (kind, before) = ((trial % 3) as usize, saved(&folder));
        let child = program.start(&folder, &[]);
        std::thread::sleep(Duration::from_millis(draws.below(900)));
        signal(&child, names[kind]);
        let ended = end(child);
        let after = saved(&folder);
        assert!(after >= before, "trial {trial}: {before} was saved, {after} is");
        if let Some(code) = ended.code() {
            // It was over, or it ended as it should; else the signal came before the run.
            let clean = [0, if kind == 1 { 130 } else { 143 }];
            assert!(clean.contains(&code), "trial {trial}, code {code}: {}", ended.said);
            if code != 0 {
                assert_eq!(Run::read(&folder).unwrap().about.ended, "interrupted");
                assert!(ended.said.contains("to go on:") && ended.said.contains("--steps"));
            }
        }
        if after > 0 {
            assert_eq!(rows(&folder, after - 1), rows(&whole, after - 1), "trial {trial}");
        }
        tallies[kind].trials += 1;
        tallies[kind].same += 1;
        if after == program.steps {
            finish(program, &folder, &ending);
            folder = folders.next().unwrap();
        }
    }
    finish(program, &folder, &ending);
    tallies.into()
}

/// A run's last tensors, and its rows.
type Ending = (std::collections::BTreeMap<String, Vec<u8>>, Vec<alcyon::train::Row>);

/// Lets a run come to its end, which has to be that of the undisturbed one; nothing of the dead is left.
fn finish(program: &Program, folder: &Path, ending: &Ending) {
    let ended = program.run(folder, &[]);
    assert!(ended.status.success(), "{}", ended.said);
    assert!(!ended.said.contains("damaged"), "{}", ended.said);
    assert!(tensors(folder) == ending.0, "another end");
    assert_eq!(rows(folder, program.steps), ending.1);
    for file in contents(folder).keys() {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(!name.starts_with('.') && !name.contains("damaged"), "{name} is left");
    }
}

/// A run that was cut off before its end, with three snapshots; and where the undisturbed one ends.
fn cut_off(program: &Program, dir: &Path) -> (PathBuf, Ending) {
    let (whole, cut) = (dir.join("whole"), dir.join("cut"));
    assert!(program.run(&whole, &[]).status.success());
    let half = cut.join(format!("snapshots/step-{:010}.json", program.steps / 2));
    loop {
        let mut child = program.start(&cut, &[]);
        while !half.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(300));
        }
        child.kill().unwrap();
        end(child);
        if saved(&cut) < program.steps && parts(&cut).len() >= 3 {
            break;
        }
        fs::remove_dir_all(&cut).unwrap(); // It was faster than the kill.
    }
    (cut, (tensors(&whole), rows(&whole, program.steps)))
}

/// Damages files of the cut-off run, one or all of a kind a trial, and lets it go on.
pub(crate) fn damage(
    program: &Program,
    dir: &Path,
    flips: u64,
    tears: u64,
    draws: &mut Draws,
) -> Vec<Tally> {
    let (cut, ending) = cut_off(program, dir);
    let shelf = cut.join("snapshots");
    let manifest = |part: &PathBuf| {
        let name = part.file_name().unwrap().to_str().unwrap();
        shelf.join(format!("{}.json", &name[.."step-0000000000".len()]))
    };
    let tensors = parts(&cut);
    let newest = tensors.last().unwrap().clone();
    let header = 8 + u64::from_le_bytes(fs::read(&newest).unwrap()[..8].try_into().unwrap());
    let mut tallies = [
        Tally::of("a bit of a header flipped"),
        Tally::of("a bit of tensors flipped"),
        Tally::of("a bit of a manifest flipped"),
        Tally::of("a part torn"),
        Tally::of("a manifest torn"),
        Tally::of("all snapshots torn"),
    ];
    for trial in 0..flips + tears {
        let tearing = trial >= flips;
        let kind = if tearing { 3 + trial % 3 } else { trial % 3 } as usize;
        let files = match kind {
            0 | 1 | 3 => vec![newest.clone()],
            2 | 4 => vec![manifest(&newest)],
            _ => tensors.clone(),
        };
        let folder = dir.join("damaged");
        copy(&cut, &folder);
        for file in &files {
            let file = folder.join(file.strip_prefix(&cut).unwrap());
            let mut bytes = fs::read(&file).unwrap();
            let length = bytes.len() as u64;
            let range = match kind {
                0 => 0..header,
                1 => header..length,
                _ => 0..length,
            };
            let at = range.start + draws.below(range.end - range.start);
            match tearing {
                true => bytes.truncate(at as usize),
                false => bytes[at as usize] ^= 1 << draws.below(8),
            }
            fs::write(&file, bytes).unwrap();
        }
        let before = contents(&folder);
        let ended = program.run(&folder, &[]);
        let tally = &mut tallies[kind];
        tally.trials += 1;
        let named = newest.file_name().unwrap().to_str().unwrap();
        assert!(ended.said.contains(&named[.."step-0000000000".len()]), "{}", ended.said);
        if kind == 5 {
            assert_eq!(ended.code(), Some(2), "{}", ended.said);
            assert!(ended.said.contains("--fresh"), "{}", ended.said);
            assert!(contents(&folder) == before, "a refused run has written");
            tally.refused += 1;
            continue;
        }
        assert!(ended.status.success(), "{}", ended.said);
        assert!(ended.said.contains("damaged"), "{}", ended.said);
        assert!(crate::program::tensors(&folder) == ending.0, "trained on what was damaged");
        assert_eq!(rows(&folder, program.steps), ending.1);
        let kept =
            contents(&folder).into_keys().filter(|f| f.to_str().unwrap().ends_with(".damaged"));
        assert_eq!(kept.count(), 2, "the manifest and the part");
        tally.older += 1;
        tally.same += 1;
    }
    tallies.into()
}

/// Two processes in one folder: one runs, and the other is told who.
pub(crate) fn company(program: &Program, dir: &Path, times: u64) -> Vec<Tally> {
    let mut tally = Tally::of("a second process in the folder");
    let whole = dir.join("alone");
    assert!(program.run(&whole, &[]).status.success());
    let ending = (tensors(&whole), rows(&whole, program.steps));
    for trial in 0..times {
        let folder = dir.join(format!("shared-{trial}"));
        let first = program.start(&folder, &[]);
        while saved(&folder) == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        let second = program.run(&folder, &[]);
        let holder = format!("process {} on ", first.id());
        assert_eq!(second.code(), Some(2), "{}", second.said);
        assert!(second.said.contains(&holder) && second.said.contains("--out"), "{}", second.said);
        assert!(end(first).status.success());
        assert!(tensors(&folder) == ending.0 && rows(&folder, program.steps) == ending.1);
        tally.trials += 1;
        tally.refused += 1;
        tally.same += 1;
    }
    vec![tally]
}
