//! What is printed.

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use crate::measure::Machine;
use crate::outcome::Outcome;
use crate::registry::KERNELS;

/// A line a kernel, and below that a line a rung; no line has more than 80 columns.
pub(crate) fn results(outcomes: &[Outcome], machine: &Machine) -> String {
    let head = ["time µs", "GB/s", "GFLOP/s", "of roof %", "difference", "launches"];
    let shown = if machine.gpu().is_some() { head.len() } else { head.len() - 1 };
    let mut text = line("", &head.map(str::to_owned)[..shown]);
    let mut before = ("", &[][..]);
    for o in outcomes {
        if before != (o.kernel, &o.shape[..]) {
            text += &format!("{} {}\n", o.kernel, sizes(&o.shape));
            before = (o.kernel, &o.shape);
        }
        let numbers = [
            format!("{:.1}", o.seconds * 1e6),
            format!("{:.2}", o.bytes_per_second() / 1e9),
            if o.flops > 0.0 { format!("{:.2}", o.flops_per_second() / 1e9) } else { "–".into() },
            format!("{:.0}", 100.0 * o.share),
            if o.difference == 0.0 { "0".into() } else { format!("{:.1e}", o.difference) },
            o.launches.map_or_else(String::new, |launches| launches.to_string()),
        ];
        text += &line(o.rung, &numbers[..shown]);
    }
    text
}

/// A name to the left, numbers to the right.
fn line(name: &str, numbers: &[String]) -> String {
    const WIDTHS: [usize; 6] = [10, 9, 9, 10, 11, 9];
    let numbers = numbers.iter().zip(WIDTHS).map(|(n, width)| format!("{n:>width$}"));
    format!("  {name:<20}{}\n", numbers.collect::<String>())
}

/// One line a kernel.
pub(crate) fn list() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["kernel", "sizes", "usually", "computes"]);
    for k in KERNELS {
        table.add_row([k.name, &k.axes.join(" x "), &sizes(k.usual), k.about]);
    }
    table
}

fn sizes(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_fit_a_terminal_of_eighty_columns_and_name_each_kernel_once() {
        let slow = |rung| Outcome {
            kernel: "conv_weight_gradient",
            rung,
            shape: vec![32, 256, 256, 56, 56],
            seconds: 1.25,
            runs: 1,
            flops: 1e13,
            bytes: 1e12,
            share: 1.0,
            difference: 1.2e-7,
            launches: Some(10),
        };
        let text = results(&[slow("reference"), slow("shifted_patches")], &Machine::Cpu);
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest.is_some_and(|columns| columns <= 80), "{text}");
        assert_eq!(text.matches("conv_weight_gradient").count(), 1, "{text}");
        assert!(!text.contains("launches"), "there are none on the CPU");
    }
}
