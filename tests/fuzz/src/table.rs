//! Tables: comma-separated text.

use std::path::Path;

use alcyon::nn::data::csv::{Label, Table};

use super::scratch::Scratch;
use super::{accepted, bits, read_again};

thread_local!(static SCRATCH: Scratch = Scratch::new());

/// Sizes agree, numbers are finite, every class occurs; and the table that is written again is read equal, also as the
/// second file of its own data set.
pub fn table(bytes: &[u8]) -> bool {
    let file = Path::new("table.csv");
    let Some(table) = accepted(Table::parse(bytes, file, &Label::Last), file) else { return false };
    let (numbers, labels) = contents(&table);
    let (rows, columns) = (labels.len(), table.features.len());
    assert_eq!(table.dataset.inputs.shape()[..], [rows, columns]);
    assert!(rows > 0 && columns > 0 && rows < bytes.len());
    assert!(numbers.iter().all(|x| x.is_finite()));
    let mut seen = 0;
    for &label in &labels {
        assert!((0..=seen).contains(&label), "classes are numbered as they come");
        seen = seen.max(label + 1);
    }
    assert_eq!((seen as usize, table.dataset.classes), (table.classes.len(), table.classes.len()));

    let text = written(&table, &numbers, &labels);
    let again = read_again(Table::parse(text.as_bytes(), file, &Label::Last));
    same(&table, &again);
    let more = SCRATCH.with(|scratch| scratch.write("more.csv", text.as_bytes()));
    match table.read_more(&more) {
        Ok(more) => same(&table, &more),
        Err(error) => {
            let twice = table.features.contains(&table.label);
            assert!(twice, "the same table is another data set's: {error}");
        }
    }
    true
}

fn same(a: &Table, b: &Table) {
    assert_eq!((&a.features, &a.classes, &a.label), (&b.features, &b.classes, &b.label));
    let ((x, l), (y, m)) = (contents(a), contents(b));
    assert_eq!((bits(&x), l), (bits(&y), m));
}

fn contents(table: &Table) -> (Vec<f32>, Vec<i64>) {
    let data = &table.dataset;
    (data.inputs.to_vec().unwrap(), data.labels.to_vec().unwrap())
}

fn written(table: &Table, numbers: &[f32], labels: &[i64]) -> String {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let mut header: Vec<String> = table.features.iter().map(quoted).collect();
    header.push(quoted(&table.label));
    let mut text = header.join(",") + "\n";
    for (row, &label) in numbers.chunks_exact(table.features.len()).zip(labels) {
        row.iter().for_each(|x| text += &format!("{x},"));
        text += &(quoted(&table.classes[label as usize]) + "\n");
    }
    text
}
