//! Texts: a training, a validation and a test part, by name or from a file.

use std::path::Path;

use engine::{Error, Result, room};

use super::file::{self, misfit};
use super::limits::TEXT;

/// The names that [`open_text`] knows.
pub const TEXTS: [&str; 3] = ["tinyshakespeare", "wikitext2-small", "austen"];

/// What some editors write in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// UTF-8 without the byte-order mark in front, which is no part of a text, a list or a JSON file.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// A text in three parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// What it is called in tables.
    pub name: String,
    /// To learn from.
    pub train: String,
    /// To choose by.
    pub validation: String,
    /// To report once.
    pub test: String,
    /// What it was read from, and how it was cut, in words.
    pub source: String,
}

/// A text by name, from `data_dir/text` or `data_dir`, or a file of your own. Files are UTF-8, and
/// may be gzipped.
///
/// | name | files | parts |
/// |---|---|---|
/// | `tinyshakespeare` | `tinyshakespeare.txt` | the first 90 % of its lines, half of the rest, the other half |
/// | `wikitext2-small` | `wikitext2-valid.txt`, `wikitext2-test.txt` | WikiText-2's validation file, and the halves of its test file: a tenth of WikiText-2 (Merity et al. 2016), whose perplexities are no figures for that set |
/// | `austen` | `austen-*.txt` of five novels | four of them, and the halves of *Persuasion* |
/// | a path | that file | as `tinyshakespeare` |
///
/// # Errors
/// [`Error::Unknown`] for a name that is no file either, [`Error::Argument`] when a folder is needed
/// and none given, [`Error::File`] for a file that is missing, empty, or not UTF-8.
///
/// # Example
/// ```
/// let dir = tempfile::tempdir().unwrap();
/// let file = dir.path().join("lines.txt");
/// std::fs::write(&file, "one line\n".repeat(20)).unwrap();
/// let corpus = alcyon_nn::data::open_text(file.to_str().unwrap(), None)?;
/// let lines = [&corpus.train, &corpus.validation, &corpus.test].map(|part| part.lines().count());
/// assert_eq!(lines, [18, 1, 1]);
/// # Ok::<(), engine::Error>(())
/// ```
pub fn open_text(name: &str, data_dir: Option<&Path>) -> Result<Corpus> {
    let part = |file: &str| {
        let dir = data_dir.ok_or(Error::Argument {
            op: "open_text",
            name: "data_dir",
            expected: "a folder with the text's files",
            got: "none".into(),
        })?;
        let folders = [dir.join("text"), dir.to_owned()];
        let mut places = folders.iter().flat_map(|f| [f.join(file), f.join(format!("{file}.gz"))]);
        let found = places.find(|place| place.is_file());
        let found = found
            .ok_or_else(|| misfit(dir, format!("{file}[.gz] there or in text/"), "no such file"))?;
        read_text(&found)
    };
    let corpus = |[train, validation, test]: [String; 3], source: &str| {
        let (name, source) = (name.to_owned(), source.to_owned());
        Corpus { name, train, validation, test, source }
    };
    match name {
        "tinyshakespeare" => {
            let text = part("tinyshakespeare.txt")?;
            Ok(corpus(tenths(&text)?, "tinyshakespeare.txt, its last tenth held out"))
        }
        "wikitext2-small" => {
            let train = part("wikitext2-valid.txt")?;
            let [validation, test] = halves(&part("wikitext2-test.txt")?, 1, 2)?;
            let source =
                "WikiText-2 small: trained on the validation file, tested on the test file";
            Ok(corpus([train, validation, test], source))
        }
        "austen" => {
            let novels = ["emma", "mansfieldpark", "prideprejudice", "sensesensibility"];
            let novels = novels.map(|novel| part(&format!("austen-{novel}.txt")));
            let novels = novels.into_iter().collect::<Result<Vec<_>>>()?;
            room::expect("open_text", novels.iter().map(String::len).sum())?;
            let train = novels.concat();
            let [validation, test] = halves(&part("austen-persuasion.txt")?, 1, 2)?;
            Ok(corpus([train, validation, test], "four novels by Jane Austen; Persuasion held out"))
        }
        path if Path::new(path).is_file() => {
            let text = read_text(Path::new(path))?;
            let mut corpus = corpus(tenths(&text)?, &format!("{path}, its last tenth held out"));
            corpus.name = Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into();
            Ok(corpus)
        }
        _ => Err(Error::Unknown {
            what: "text",
            got: name.to_owned(),
            known: TEXTS.map(str::to_owned).to_vec(),
        }),
    }
}

/// A UTF-8 file, gzipped or not. A byte-order mark at its start is no part of the text.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::File`] when it is empty or not UTF-8.
pub fn read_text(file: &Path) -> Result<String> {
    let mut bytes = file::read(file, TEXT)?;
    bytes.drain(..bytes.len() - without_mark(&bytes).len());
    let text = String::from_utf8(bytes).map_err(|e| {
        let (at, utf8) = (e.utf8_error().valid_up_to(), e.as_bytes());
        misfit(file, "UTF-8 text", format!("byte {:#04x} at byte {at}", utf8[at]))
    })?;
    if text.is_empty() {
        return Err(misfit(file, "text", "0 bytes"));
    }
    Ok(text)
}

fn tenths(text: &str) -> Result<[String; 3]> {
    let [train, rest] = halves(text, 9, 10)?;
    let [validation, test] = halves(&rest, 1, 2)?;
    Ok([train, validation, test])
}

/// The text up to the end of the line in which the given share of it ends, and the rest; a text
/// with too few lines for that is cut between characters.
fn halves(text: &str, share: usize, of: usize) -> Result<[String; 2]> {
    let mut at = text.len() / of * share;
    while !text.is_char_boundary(at) {
        at += 1;
    }
    if let Some(end) = text[..at].rfind('\n') {
        at = end + 1;
    }
    room::expect("open_text", text.len())?;
    Ok([text[..at].to_owned(), text[at..].to_owned()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_byte_that_is_no_text_is_located() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("latin1.txt");
        std::fs::write(&file, b"caf\xe9 au lait").unwrap();
        let message = read_text(&file).unwrap_err().to_string();
        assert!(message.ends_with("expected UTF-8 text, got byte 0xe9 at byte 3"), "{message}");
        std::fs::write(&file, b"").unwrap();
        assert!(read_text(&file).unwrap_err().to_string().ends_with("got 0 bytes"));
    }

    #[test]
    fn names_are_listed_and_missing_files_and_folders_said() {
        let unknown = open_text("bible", None).unwrap_err().to_string();
        assert_eq!(
            unknown,
            "unknown text `bible`; known: tinyshakespeare, wikitext2-small, austen"
        );
        assert!(matches!(open_text("austen", None), Err(Error::Argument { .. })));
        let dir = tempfile::tempdir().unwrap();
        let message = open_text("austen", Some(dir.path())).unwrap_err().to_string();
        assert!(message.contains("austen-emma.txt[.gz] there or in text/"), "{message}");
    }

    #[test]
    fn the_real_texts_have_the_published_sizes() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
        if !dir.is_dir() {
            eprintln!("skipped: {} is not there", dir.display());
            return;
        }
        let open = |name| open_text(name, Some(&dir)).unwrap();
        let shakespeare = open("tinyshakespeare");
        let whole = [&shakespeare.train, &shakespeare.validation, &shakespeare.test];
        assert_eq!(whole.iter().map(|part| part.len()).sum::<usize>(), 1_115_394);
        assert!(shakespeare.train.len().abs_diff(1_003_854) < 200);
        let wiki = open("wikitext2-small");
        let tokens = |text: &str| text.split_whitespace().count() + text.lines().count();
        assert_eq!(tokens(&wiki.train), 217_646);
        assert_eq!(tokens(&wiki.validation) + tokens(&wiki.test), 245_569);
        let austen = open("austen");
        assert!(austen.train.contains("Emma Woodhouse") && austen.test.contains("Anne"));
    }

    #[test]
    fn a_byte_order_mark_is_no_character_of_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.txt");
        std::fs::write(&file, "\u{feff}one\n\u{feff}two\n").unwrap();
        assert_eq!(read_text(&file).unwrap(), "one\n\u{feff}two\n");
        std::fs::write(&file, "\u{feff}").unwrap();
        assert!(matches!(read_text(&file), Err(Error::File { .. })));
    }

    proptest! {
        #[test]
        fn any_text_is_cut_into_parts_that_join_to_it(text in "[a-zé\n]{0,60}") {
            prop_assert_eq!(tenths(&text).unwrap().concat(), text);
        }
    }
}
