//! Lists in sentences: of shapes, of names, of what two checkpoints differ in.

use crate::Shape;

/// The longest line of names.
const COLUMNS: usize = 88;

/// How many names of a long list of differences are shown; the error's fields have them all.
const SHOWN: usize = 8;

pub(super) fn shapes(shapes: &[Shape]) -> String {
    if shapes.is_empty() {
        return "no input".into();
    }
    shapes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// All names: behind the sentence if they fit on a line, else on lines of their own.
pub(super) fn names(names: &[String]) -> String {
    let line = names.join(", ");
    if line.len() <= COLUMNS {
        return line;
    }
    let (mut text, mut width) = (String::new(), COLUMNS);
    for (i, name) in names.iter().enumerate() {
        let comma = if i + 1 < names.len() { "," } else { "" };
        let needed = 1 + name.len() + comma.len();
        if width + needed > COLUMNS {
            text.push_str("\n ");
            width = 1;
        }
        text.push_str(&format!(" {name}{comma}"));
        width += needed;
    }
    text
}

/// What a checkpoint and a model differ in.
pub(super) fn differences(
    missing: &[String],
    unexpected: &[String],
    misshapen: &[(String, Shape, Shape)],
) -> String {
    let mut parts = vec!["not a checkpoint of this model".to_owned()];
    for (what, names) in [("missing", missing), ("unexpected", unexpected)] {
        if !names.is_empty() {
            parts.push(format!("{what}: {}", some(names, ", ")));
        }
    }
    let shapes: Vec<String> = misshapen
        .iter()
        .map(|(name, want, got)| format!("{name}: expected {want}, got {got}"))
        .collect();
    if !shapes.is_empty() {
        parts.push(some(&shapes, "; "));
    }
    parts.join("; ")
}

/// The first names, and how many more there are.
fn some(names: &[String], separator: &str) -> String {
    let shown = names[..names.len().min(SHOWN)].join(separator);
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Error;

    #[test]
    fn a_long_list_of_known_names_is_broken_into_lines() {
        let known: Vec<String> = (0..60).map(|i| format!("optimizer-{i}")).collect();
        let got = "adm".to_owned();
        let error = Error::Unknown { what: "optimizer", got, known: known.clone() }.to_string();
        assert!(error.lines().count() > 5 && error.lines().all(|line| line.len() <= 90), "{error}");
        let words: Vec<&str> = error.split([' ', ',', '\n']).collect();
        assert!(known.iter().all(|name| words.contains(&name.as_str())), "{error}");
    }

    #[test]
    fn hundreds_of_missing_names_are_counted_and_kept_as_data() {
        let missing: Vec<String> = (0..300).map(|i| format!("layers.{i}.weight")).collect();
        let error = Error::Checkpoint {
            file: "m.safetensors".into(),
            missing,
            unexpected: vec!["head".into()],
            misshapen: Vec::new(),
        };
        let text = error.to_string();
        assert!(text.len() < 400 && text.contains("and 292 more; unexpected: head"), "{text}");
        assert!(matches!(error, Error::Checkpoint { missing, .. } if missing.len() == 300));
    }
}
