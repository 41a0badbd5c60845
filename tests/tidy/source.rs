//! The repository as text: its files, and what in a Rust file is code.

use std::{fs, io, path::Path};

/// One text file, by its path from the repository's root.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The file's name without folder and ending.
    pub(crate) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split('.').next().unwrap_or(name)
    }

    /// Whether the file lies (anywhere) in `folder` and ends with `ending`.
    pub(crate) fn is_in(&self, folder: &str, ending: &str) -> bool {
        self.path.starts_with(folder) && self.path.ends_with(ending)
    }

    /// The text with comments, strings and character literals blanked; lines stay lines.
    pub(crate) fn code(&self) -> String {
        code(&self.text)
    }

    pub(crate) fn non_blank_lines(&self) -> usize {
        self.text.lines().filter(|line| !line.trim().is_empty()).count()
    }
}

/// The text files of the repository. Tests run in the root of their package, which is the root.
pub(crate) fn repository() -> io::Result<Vec<Source>> {
    let mut files = Vec::new();
    read_folder(Path::new("."), &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read_folder(folder: &Path, files: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
            if !hidden && name != "target" {
                read_folder(&path, files)?;
            }
        } else if [".rs", ".cu", ".toml", ".md"].iter().any(|e| name.ends_with(e)) || name == "run"
        {
            let from_root = path.strip_prefix(".").unwrap_or(&path).to_string_lossy();
            files.push(Source::new(&from_root.replace('\\', "/"), &fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// The maximal runs of letters, digits and underscores.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let literal = comment(rest).or_else(|| string(rest)).or_else(|| character(rest));
        if let Some(length) = literal {
            out.extend(rest[..length].chars().filter(|c| *c == '\n'));
            out.push(' ');
            rest = &rest[length..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The length in bytes of the comment that `text` begins with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*").then(|| text.find("*/").map_or(text.len(), |end| end + 2))
}

/// The length of the string literal that `text` begins with: `"…"`, `r"…"`, `r#"…"#`.
fn string(text: &str) -> Option<usize> {
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let end = body.find(&close).map_or(body.len(), |end| end + close.len());
        return Some(1 + hashes + 1 + end);
    }
    let body = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = body.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    Some(1 + end.map_or(body.len(), |end| end + 1))
}

/// The length of the character literal that `text` begins with; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut chars = body.chars();
    let first = chars.next()?;
    if first == '\\' {
        return body[2..].find('\'').map(|end| 2 + end + 2);
    }
    (chars.next() == Some('\'')).then_some(1 + first.len_utf8() + 1)
}
