//! Text in a page: escaped, and numbers as people write them.

/// Text as an element or an attribute may hold it.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// JSON that a script element may hold: no end of it in a string.
pub(super) fn script_json(json: &serde_json::Value) -> String {
    json.to_string().replace('<', "\\u003c")
}

/// Four digits that count, without zeros at the end; powers of ten where there would be many.
pub(super) fn number(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return x.to_string();
    }
    let places = 3 - x.abs().log10().floor() as i32;
    if !(-3..=6).contains(&places) {
        let text = format!("{x:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", trimmed(digits));
    }
    trimmed(&format!("{x:.*}", places.max(0) as usize)).to_owned()
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// Bytes in a unit that leaves at most four digits.
pub(super) fn bytes(n: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut x, mut unit) = (n as f64, 0);
    while x >= 1000.0 && unit + 1 < units.len() {
        (x, unit) = (x / 1024.0, unit + 1);
    }
    format!("{} {}", number((x * 10.0).round() / 10.0), units[unit])
}

/// Seconds as hours, minutes, seconds.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 100.0 {
        return format!("{} s", number((seconds * 100.0).round() / 100.0));
    }
    let all = seconds.round() as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    if hours > 0 {
        format!("{hours} h {minutes:02} min")
    } else {
        format!("{minutes} min {seconds:02} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        let json = serde_json::json!({ "name": "</script><script>alert(1)" });
        assert!(!script_json(&json).contains('<'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&script_json(&json)).unwrap(), json);
    }

    #[test]
    fn numbers_have_four_digits_that_count() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (0.123_456, "0.1235"),
            (1234.56, "1235"),
            (100.0, "100"),
            (1e-7, "1e-7"),
            (0.001, "0.001"),
            (12_345_678.0, "1.23e7"),
            (-2.5, "-2.5"),
        ];
        for (x, text) in cases {
            assert_eq!(number(x), text);
        }
    }

    #[test]
    fn sizes_and_times_come_in_units() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(2048), bytes(3 << 20)],
            ["0 B", "999 B", "2 KiB", "3 MiB"]
        );
        assert_eq!(duration(1.234), "1.23 s");
        assert_eq!([duration(125.0), duration(7260.0)], ["2 min 05 s", "2 h 01 min"]);
    }
}
