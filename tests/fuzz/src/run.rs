//! Records of runs: `run.json`, `metrics.jsonl` and `factors.jsonl`, and the page that is made of them.

use alcyon::train::{About, Run, metrics, report};

use super::scratch::{Scratch, parts};
use super::{accepted, read_again};

thread_local!(static SCRATCH: Scratch = Scratch::new());

/// What is read of a run can be written and is read equal, and has a page, whole and of a size that its numbers
/// explain. The three files are parts of the input.
pub fn run(bytes: &[u8]) -> bool {
    let [about, rows, factors] = parts(bytes);
    SCRATCH.with(|scratch| {
        for (name, part) in
            [("run.json", about), ("metrics.jsonl", rows), ("factors.jsonl", factors)]
        {
            scratch.write(name, part);
        }
        let table = scratch.write("metrics.csv", rows);
        accepted(metrics::read_csv(&table), &table);
        let Some(run) = accepted(Run::read(scratch.path()), scratch.path()) else { return false };
        let about = read_again(serde_json::to_string(&run.about));
        assert_eq!(read_again(serde_json::from_str::<About>(&about)), run.about);
        let page = report::page("runs", &[run.clone(), run]);
        assert!(page.ends_with("</html>\n"));
        for wrong in ["NaN", "inf "] {
            let drawn = page.split("d=\"").skip(1).filter_map(|rest| rest.split('"').next());
            let mut drawn = drawn.filter(|path| path.starts_with('M'));
            assert!(!drawn.any(|path| path.contains(wrong)), "{wrong} is drawn");
        }
        assert!(page.len() < 200_000 + 4_000 * bytes.len(), "{} bytes of a page", page.len());
        true
    })
}
