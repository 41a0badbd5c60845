//! What is printed.

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::measure::Machine;
use crate::outcome::Outcome;
use crate::registry::KERNELS;

/// One line a rung.
pub(crate) fn results(outcomes: &[Outcome], machine: &Machine) -> Table {
    let mut head =
        vec!["kernel", "rung", "sizes", "time µs", "GB/s", "GFLOP/s", "of roof %", "difference"];
    if machine.gpu().is_some() {
        head.push("launches");
    }
    let mut table = plain(head);
    let mut before = "";
    for o in outcomes {
        let first = o.kernel != before;
        let once = |text: String| if first { text } else { String::new() };
        let mut row = vec![
            once(o.kernel.to_owned()),
            o.rung.to_owned(),
            once(sizes(&o.shape)),
            format!("{:.1}", o.seconds * 1e6),
            format!("{:.2}", o.bytes_per_second() / 1e9),
            if o.flops > 0.0 { format!("{:.2}", o.flops_per_second() / 1e9) } else { "–".into() },
            format!("{:.0}", 100.0 * o.share),
            if o.difference == 0.0 { "0".into() } else { format!("{:.1e}", o.difference) },
        ];
        row.extend(o.launches.map(|launches| launches.to_string()));
        table.add_row(cells(row));
        before = o.kernel;
    }
    table
}

/// One line a kernel.
pub(crate) fn list() -> Table {
    let mut table = plain(vec!["kernel", "sizes", "usually", "computes"]);
    for k in KERNELS {
        table.add_row([k.name, &k.axes.join(" x "), &sizes(k.usual), k.about]);
    }
    table
}

fn plain(head: Vec<&str>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(head);
    table
}

/// A row: names to the left, numbers to the right.
fn cells(row: Vec<String>) -> Vec<Cell> {
    let side = |i| if i < 2 { CellAlignment::Left } else { CellAlignment::Right };
    row.into_iter().enumerate().map(|(i, c)| Cell::new(c).set_alignment(side(i))).collect()
}

fn sizes(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}
