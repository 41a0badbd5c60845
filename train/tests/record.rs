//! What a run leaves behind is what a report is made of.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::path::Path;

use alcyon_train::{
    Budget, Every, Plan, Record, Run, Score, Shuffled, Snapshots, Supervised, Trainer, report,
};
use engine::Rng;
use nn::data::{self, Loader};
use nn::{Mlp, metric};

/// Trains to a step in a folder, from its last snapshot if there is one.
fn run(name: &str, folder: &Path, steps: u64) -> (Run, Mlp) {
    let (train, test) = data::iris().unwrap();
    let mut model = Mlp::new(&[4, 8, 3], &mut Rng::new(0));
    let mut optimizer = optim::build(name, None).unwrap();
    let settings = vec![("optimizer".to_owned(), name.to_owned())];
    let mut record = Record::new(folder, name, settings).reference("guessing", 1.0 / 3.0);
    let (budget, evaluate) = (Budget::steps(steps), Every::Steps(5));
    Trainer::new(
        &mut model,
        &mut *optimizer,
        &Supervised::classification(),
        Plan { budget, evaluate, log_every: 2, ..Plan::default() },
    )
    .unwrap()
    .snapshots(Snapshots { steps: Some(4), seconds: None, ..Snapshots::new(folder) })
    .observe(&mut record)
    .run(&Shuffled::new(Loader::new(&train, 16).unwrap(), 0), &Loader::new(&test, 16).unwrap())
    .unwrap();
    (Run::read(folder).unwrap(), model)
}

#[test]
fn a_run_reads_back_with_its_rows_coverage_and_factors() {
    let dir = tempfile::tempdir().unwrap();
    let (adafisher, model) = run("adafisher", &dir.path().join("adafisher"), 10);
    assert_eq!(adafisher.about.score, Score::Accuracy);
    assert_eq!(adafisher.about.parameters, 5 * 8 + 9 * 3);
    assert_eq!(adafisher.about.coverage.len(), 4);
    assert_eq!(adafisher.about.ended, "the budget was used up");
    let steps: Vec<u64> = adafisher.rows.iter().map(|row| row.step).collect();
    assert_eq!(steps, [2, 4, 5, 6, 8, 10, 10]);
    let (_, test) = data::iris().unwrap();
    let logits = nn::Module::predict(&model, &test.inputs).unwrap();
    let accuracy = metric::accuracy(&logits, &test.labels).unwrap();
    assert_eq!(adafisher.rows[6].score, Some(accuracy));
    // H and S of two layers, at two evaluations: H has an entry for the bias.
    let of = |f: &alcyon_train::Factor| (f.step, f.name.clone(), f.rows, f.size);
    let factors: Vec<_> = adafisher.factors.iter().map(of).collect();
    assert_eq!(factors.len(), 8);
    assert!(factors.contains(&(5, "H".into(), 1, 5)) && factors.contains(&(10, "S".into(), 1, 3)));

    let kfac = run("kfac", &dir.path().join("kfac"), 10).0;
    let of = |f: &alcyon_train::Factor| (f.name.clone(), f.rows, f.size, f.values.len());
    let factors: Vec<_> = kfac.factors.iter().map(of).collect();
    assert!(factors.contains(&("A".into(), 5, 5, 25)) && factors.contains(&("G".into(), 8, 8, 64)));
    assert!(run("adam", &dir.path().join("adam"), 10).0.factors.is_empty());

    let page = report::page("Iris", &[adafisher, kfac]);
    assert!(page.contains("layers.0.weight") && page.contains("guessing 0.3333"));
}

#[test]
fn a_run_that_goes_on_has_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let whole = run("adafisher", &dir.path().join("whole"), 14).0;
    let folder = dir.path().join("parts");
    // Cut off after step 10: told until then, saved at 8 (the snapshot at the end is taken away).
    run("adafisher", &folder, 10);
    let newest = folder.join("snapshots/step-0000000010.json");
    std::fs::remove_file(newest).unwrap();
    let parts = run("adafisher", &folder, 14).0;
    let timeless = |run: &Run| {
        let row = |row: &alcyon_train::Row| alcyon_train::Row { seconds: 0.0, ..row.clone() };
        run.rows.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(timeless(&parts), timeless(&whole));
    assert_eq!(parts.factors, whole.factors);
    // And a run that is over, started once more, keeps what is known about it.
    assert_eq!(run("adafisher", &folder, 14).0, parts);
}
