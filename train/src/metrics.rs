//! Metrics in files: a row for each step that is told, and one for each evaluation.
//!
//! `metrics.jsonl` has a JSON object a line, `metrics.csv` the same with a header. Both are written line by
//! line. A run that goes on from a snapshot first takes out what was written about later steps, so
//! that no step stands there twice. What has become no line of its kind is set aside before that.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use engine::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::disk::{beside, make_folder, sync, write_whole};
use crate::{Evaluation, Event, Observer, Step};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A step of training.
    Step,
    /// An evaluation.
    Evaluation,
}

/// A line of a metrics file. What is not known, or not finite, is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is about.
    pub kind: Kind,
    /// Steps taken.
    pub step: u64,
    /// The epoch.
    pub epoch: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The mean loss: of the batches, or of the data evaluated on.
    pub loss: Option<f64>,
    /// The learning rate of a step.
    pub rate: Option<f64>,
    /// The norm of its gradients.
    pub norm: Option<f64>,
    /// The score of an evaluation.
    pub score: Option<f64>,
}

impl From<&Step> for Row {
    fn from(step: &Step) -> Self {
        let &Step { step, epoch, seconds, loss, rate, norm, used: _ } = step;
        let (loss, rate, norm) = (finite(loss), finite(rate), norm.and_then(finite));
        Self { kind: Kind::Step, step, epoch, seconds, loss, rate, norm, score: None }
    }
}

impl From<&Evaluation> for Row {
    fn from(evaluation: &Evaluation) -> Self {
        let &Evaluation { step, epoch, seconds, loss, score, best: _ } = evaluation;
        let (kind, loss, score) = (Kind::Evaluation, finite(loss), finite(score));
        Self { kind, step, epoch, seconds, loss, rate: None, norm: None, score }
    }
}

fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// The observer that writes both files.
///
/// # Example
/// ```
/// use alcyon_train::{Event, Metrics, Observer, Place, Score, Step, metrics};
/// # let dir = tempfile::tempdir().unwrap();
/// let mut observer = Metrics::new(dir.path());
/// let place = Place::default();
/// observer.on(&Event::Started { place: &place, score: Score::Loss, steps_per_epoch: 10 })?;
/// let step = Step { step: 1, epoch: 0, seconds: 0.5, loss: 2.5, rate: 0.1, norm: None, used: 0.1 };
/// observer.on(&Event::Stepped(&step))?;
/// let rows = metrics::read_csv(&dir.path().join("metrics.csv"))?;
/// assert_eq!(rows, metrics::read_jsonl(&dir.path().join("metrics.jsonl"))?);
/// assert_eq!((rows[0].step, rows[0].loss), (1, Some(2.5)));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Metrics {
    folder: PathBuf,
}

impl Metrics {
    /// For the folder of a run; it is made if it is not there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn begin(&self, step: u64) -> Result<()> {
        make_folder(&self.folder)?;
        let (lines, table) = (self.folder.join("metrics.jsonl"), self.folder.join("metrics.csv"));
        keep_lines(&lines, |row: &Row| row.step <= step)?;
        let mut rows = read_jsonl(&lines)?;
        rows.retain(|row| row.step <= step);
        let written = csv_lines(&rows, true).map_err(|e| Error::io(&table, e))?;
        write_whole(&table, written.as_bytes())
    }

    fn add(&self, row: &Row) -> Result<()> {
        append(&self.folder.join("metrics.jsonl"), row)?;
        let table = self.folder.join("metrics.csv");
        let line = csv_lines(std::slice::from_ref(row), false).map_err(|e| Error::io(&table, e))?;
        append_text(&table, &line)
    }
}

impl Observer for Metrics {
    fn on(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Started { place, .. } => self.begin(place.step),
            Event::Stepped(step) => self.add(&Row::from(*step)),
            Event::Evaluated { evaluation, .. } => self.add(&Row::from(*evaluation)),
            Event::Saving { .. } => {
                ["metrics.jsonl", "metrics.csv"].iter().try_for_each(|n| sync(&self.folder.join(n)))
            }
            _ => Ok(()),
        }
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.folder)
    }
}

/// The rows of a `metrics.jsonl`. A last line without an end, of a process that was killed while
/// it wrote, is left out.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::File`] for a line that is no row.
pub fn read_jsonl(file: &Path) -> Result<Vec<Row>> {
    read_lines(file)
}

/// The rows of a `metrics.csv`; as [`read_jsonl`].
///
/// # Errors
/// As [`read_jsonl`].
pub fn read_csv(file: &Path) -> Result<Vec<Row>> {
    let text = read(file)?;
    let mut reader = csv::Reader::from_reader(whole_lines(&text).as_bytes());
    reader.deserialize().map(|row| row.map_err(|e| misfit(file, "a row of metrics", &e))).collect()
}

/// The whole lines of a file of JSON objects; none of a file that is not there.
pub(crate) fn read_lines<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let text = read(file)?;
    let lines = whole_lines(&text).lines().enumerate();
    let row = |(at, line): (usize, &str)| {
        let expected = format!("an object of its kind in line {}", at + 1);
        serde_json::from_str(line).map_err(|e| misfit(file, &expected, &e))
    };
    lines.map(row).collect()
}

/// What was no line of a file.
pub(crate) struct Damage {
    pub(crate) file: PathBuf,
    /// Where those bytes are now.
    pub(crate) kept: PathBuf,
    pub(crate) error: Error,
}

/// Takes the lines out that are none of their kind, and keeps them in a file beside. The beginning of a last line,
/// of a process that was killed while it wrote, is nobody's loss.
pub(crate) fn mend<T: DeserializeOwned>(file: &Path) -> Result<Option<Damage>> {
    let bytes = match fs::read(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|e| Error::io(file, e))?,
    };
    let (mut good, mut bad, mut first) = (Vec::new(), Vec::new(), 0);
    for (at, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let cut_short = line.last() != Some(&b'\n');
        if !cut_short && serde_json::from_slice::<T>(line).is_ok() {
            good.extend(line);
        } else if !(cut_short && line[0] == b'{' && line.iter().all(|b| (b' '..0x7f).contains(b))) {
            first = if bad.is_empty() { at + 1 } else { first };
            bad.extend(line);
        }
    }
    if bad.is_empty() {
        return Ok(None);
    }
    let kept = beside(file);
    write_whole(&kept, &bad)?;
    write_whole(file, &good)?;
    let error =
        misfit(file, "objects of its kind", &format!("{} bytes from line {first} on", bad.len()));
    Ok(Some(Damage { file: file.to_owned(), kept, error }))
}

/// Takes the lines out that are not to be kept.
pub(crate) fn keep_lines<T: DeserializeOwned + Serialize>(
    file: &Path,
    keep: impl Fn(&T) -> bool,
) -> Result<()> {
    let mut text = String::new();
    for row in read_lines::<T>(file)?.iter().filter(|row| keep(row)) {
        text += &line(file, row)?;
    }
    write_whole(file, text.as_bytes())
}

/// Adds a line.
pub(crate) fn append<T: Serialize>(file: &Path, row: &T) -> Result<()> {
    append_text(file, &line(file, row)?)
}

fn line<T: Serialize>(file: &Path, row: &T) -> Result<String> {
    Ok(serde_json::to_string(row).map_err(|e| Error::io(file, e.into()))? + "\n")
}

fn append_text(file: &Path, text: &str) -> Result<()> {
    let open = OpenOptions::new().append(true).create(true).open(file);
    open.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|e| Error::io(file, e))
}

fn csv_lines(rows: &[Row], header: bool) -> std::io::Result<String> {
    let mut writer = csv::WriterBuilder::new().has_headers(header).from_writer(Vec::new());
    if header && rows.is_empty() {
        writer.write_record(COLUMNS)?;
    }
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}

/// The fields of a [`Row`].
const COLUMNS: [&str; 8] = ["kind", "step", "epoch", "seconds", "loss", "rate", "norm", "score"];

fn read(file: &Path) -> Result<String> {
    match fs::read_to_string(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|e| Error::io(file, e)),
    }
}

/// All up to the last end of a line.
fn whole_lines(text: &str) -> &str {
    text.rfind('\n').map_or("", |end| &text[..=end])
}

fn misfit(file: &Path, expected: &str, got: &dyn std::fmt::Display) -> Error {
    Error::File { file: file.to_owned(), expected: expected.into(), got: got.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Place, Score};

    fn step(step: u64, loss: f64) -> Step {
        Step { step, epoch: 0, seconds: 0.1 * step as f64, loss, rate: 0.1, norm: None, used: 0.0 }
    }

    fn start(metrics: &mut Metrics, step: u64) {
        let place = Place { step, ..Place::default() };
        let event = Event::Started { place: &place, score: Score::Loss, steps_per_epoch: 9 };
        metrics.on(&event).unwrap();
    }

    #[test]
    fn a_resumed_run_has_no_step_twice_and_a_torn_line_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, table) = (dir.path().join("metrics.jsonl"), dir.path().join("metrics.csv"));
        let mut metrics = Metrics::new(dir.path());
        start(&mut metrics, 0);
        assert!(read_csv(&table).unwrap().is_empty());
        (1..=5).for_each(|n| metrics.on(&Event::Stepped(&step(n, 1.0 / n as f64))).unwrap());
        append_text(&lines, "{\"kind\":\"step\",\"st").unwrap();
        append_text(&table, "step,6,").unwrap();
        assert_eq!(read_jsonl(&lines).unwrap().len(), 5);
        assert_eq!(read_csv(&table).unwrap().len(), 5);
        start(&mut metrics, 3);
        metrics.on(&Event::Stepped(&step(4, 0.7))).unwrap();
        let rows = read_jsonl(&lines).unwrap();
        assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(rows[3].loss, Some(0.7));
        assert_eq!(read_csv(&table).unwrap(), rows, "both files say the same to the last bit");
        start(&mut metrics, 0);
        assert!(read_jsonl(&lines).unwrap().is_empty(), "a new run begins with nothing");
    }

    #[test]
    fn what_is_no_row_is_kept_beside_and_all_rows_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("metrics.jsonl");
        let row = |n| line(&file, &Row::from(&step(n, 0.5))).unwrap();
        let whole = format!("{}{}", row(1), row(2));
        assert!(mend::<Row>(&file).unwrap().is_none(), "no file is no damage");
        for torn in ["", "{\"kind\":\"st"] {
            fs::write(&file, format!("{whole}{torn}")).unwrap();
            assert!(mend::<Row>(&file).unwrap().is_none(), "{torn}");
        }
        for bad in [&b"\0\0\0\0"[..], b"text\n", b"\xff\xfe{}\n", b"{}\n", b"\0\0{\"kind\"\n"] {
            for (before, after) in [(whole.clone(), row(3)), (String::new(), String::new())] {
                let after = if bad.ends_with(b"\n") { after } else { String::new() };
                fs::write(&file, [before.as_bytes(), bad, after.as_bytes()].concat()).unwrap();
                let damage = mend::<Row>(&file).unwrap().unwrap();
                assert_eq!(fs::read(&damage.kept).unwrap(), bad);
                assert_eq!(fs::read_to_string(&file).unwrap(), format!("{before}{after}"));
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_left_open_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::new(dir.path());
        start(&mut metrics, 0);
        metrics.on(&Event::Stepped(&step(1, f64::NAN))).unwrap();
        for rows in [
            read_jsonl(&dir.path().join("metrics.jsonl")).unwrap(),
            read_csv(&dir.path().join("metrics.csv")).unwrap(),
        ] {
            assert_eq!((rows[0].loss, rows[0].rate), (None, Some(0.1)));
        }
    }

    #[test]
    fn a_line_that_is_no_row_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("metrics.jsonl");
        fs::write(&file, "{}\n").unwrap();
        let error = read_jsonl(&file).unwrap_err();
        assert!(matches!(&error, Error::File { expected, .. } if expected.ends_with("line 1")));
        let table = dir.path().join("metrics.csv");
        fs::write(&table, "kind,step\nstep,x\n").unwrap();
        assert!(matches!(read_csv(&table), Err(Error::File { .. })));
    }
}
