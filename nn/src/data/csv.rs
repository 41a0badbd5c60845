//! Tables: a header line, numbers, and a column of class names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use engine::{Error, Result, Tensor};

use super::Dataset;

/// Which column holds the class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Label {
    /// The last one.
    #[default]
    Last,
    /// The one with this name in the header.
    Named(String),
}

/// A data set with the names of its columns and classes.
#[derive(Debug, Clone)]
pub struct Table {
    /// Inputs `[N, F]` in f32, labels `[N]`.
    pub dataset: Dataset,
    /// The F names of the features.
    pub features: Vec<String>,
    /// The names of the classes, in the order in which they first occur.
    pub classes: Vec<String>,
}

impl Table {
    /// Reads a file; it gives the data set its name.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, else as [`Table::parse`].
    pub fn read(file: &Path, label: &Label) -> Result<Self> {
        Self::parse(File::open(file).map_err(|e| Error::io(file, e))?, file, label)
    }

    /// Reads comma-separated text with a header line; `file` is named in errors.
    ///
    /// # Errors
    /// [`Error::File`], with the line, for a row of another length, a feature that is not a finite
    /// number, an empty class, no header or no rows; [`Error::Unknown`] for a label column that is
    /// not in the header.
    ///
    /// # Example
    /// ```
    /// use alcyon_nn::data::csv::{Label, Table};
    /// use std::path::Path;
    /// let text = "width,kind,height\n1.5,cat,2\n3,dog,4\n";
    /// let label = Label::Named("kind".into());
    /// let table = Table::parse(text.as_bytes(), Path::new("pets.csv"), &label)?;
    /// assert_eq!(table.features, ["width", "height"]);
    /// assert_eq!(table.classes, ["cat", "dog"]);
    /// assert_eq!(table.dataset.inputs.to_vec::<f32>()?, [1.5, 2.0, 3.0, 4.0]);
    /// # Ok::<(), engine::Error>(())
    /// ```
    pub fn parse(mut text: impl Read, file: &Path, label: &Label) -> Result<Self> {
        let mut bytes = Vec::new();
        text.read_to_end(&mut bytes).map_err(|e| Error::io(file, e))?;
        let broken = |e| broken(file, &bytes, &e);
        let mut reader = ::csv::ReaderBuilder::new().trim(::csv::Trim::All).from_reader(&bytes[..]);
        let header = reader.headers().map_err(broken)?.clone();
        let column = label_column(&header, label, file)?;
        let names = |skip: usize| header.iter().enumerate().filter(move |&(i, _)| i != skip);
        if let Some((_, number)) = names(column).find(|(_, name)| name.parse::<f64>().is_ok()) {
            return Err(misfit(file, 1, "names of columns", number));
        }

        let (mut inputs, mut labels, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = || line_of(&bytes, record.position());
            for (i, field) in record.iter().enumerate() {
                if i == column {
                    labels.push(
                        class_of(field, &mut classes)
                            .ok_or_else(|| misfit(file, line(), "a class", "nothing"))?,
                    );
                } else {
                    let number = field.parse::<f32>().ok().filter(|x| x.is_finite());
                    inputs.push(
                        number.ok_or_else(|| misfit(file, line(), "a finite number", field))?,
                    );
                }
            }
        }
        if labels.is_empty() {
            return Err(misfit(file, 2, "at least one row", "none"));
        }
        let count = labels.len();
        let inputs = Tensor::from_vec(inputs, [count, header.len() - 1])?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let labels = Tensor::from_vec(labels, [count])?;
        let dataset = Dataset::new(&name, &inputs, &labels, classes.len())?;
        let features = names(column).map(|(_, name)| name.to_owned()).collect();
        Ok(Self { dataset, features, classes })
    }
}

fn label_column(header: &::csv::StringRecord, label: &Label, file: &Path) -> Result<usize> {
    if header.len() < 2 {
        return Err(misfit(file, 1, "a feature and a class", &format!("{} columns", header.len())));
    }
    match label {
        Label::Last => Ok(header.len() - 1),
        Label::Named(name) => {
            header.iter().position(|column| column == name).ok_or_else(|| Error::Unknown {
                what: "column",
                got: name.clone(),
                known: header.iter().map(str::to_owned).collect(),
            })
        }
    }
}

/// The number of a class; a new name gets the next one, an empty one none.
fn class_of(name: &str, classes: &mut Vec<String>) -> Option<i64> {
    if name.is_empty() {
        return None;
    }
    let known = classes.iter().position(|class| class == name);
    Some(known.unwrap_or_else(|| {
        classes.push(name.to_owned());
        classes.len() - 1
    }) as i64)
}

/// The line of a record. Its position may be that of blank lines before it.
fn line_of(bytes: &[u8], position: Option<&::csv::Position>) -> usize {
    let at = position.map_or(0, |p| p.byte() as usize).min(bytes.len());
    let blank = bytes[at..].iter().take_while(|&&b| b == b'\n' || b == b'\r').count();
    1 + bytes[..at + blank].iter().filter(|&&b| b == b'\n').count()
}

fn misfit(file: &Path, line: usize, expected: &str, got: &str) -> Error {
    let expected = format!("{expected} in line {line}");
    Error::File { file: file.to_owned(), expected, got: format!("`{got}`") }
}

fn broken(file: &Path, bytes: &[u8], error: &::csv::Error) -> Error {
    let line = line_of(bytes, error.position());
    match error.kind() {
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            misfit(file, line, &format!("{expected_len} fields"), &format!("{len} fields"))
        }
        ::csv::ErrorKind::Utf8 { .. } => misfit(file, line, "UTF-8", "other bytes"),
        _ => misfit(file, line, "comma-separated text", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: impl AsRef<[u8]>) -> Result<Table> {
        Table::parse(text.as_ref(), Path::new("t.csv"), &Label::Last)
    }

    #[test]
    fn each_fault_is_named_with_its_line() {
        for (text, message) in [
            ("a,b,c\n1,2,x\n1,x\n", "expected 3 fields in line 3, got `2 fields`"),
            ("a,b,c\n1,two,x\n", "expected a finite number in line 2, got `two`"),
            ("a,b,c\n1,2,x\n\n1,NaN,x\n", "expected a finite number in line 4, got `NaN`"),
            ("a,b,c\n1,1e99,x\n", "expected a finite number in line 2, got `1e99`"),
            ("a,b,c\n1,,x\n", "expected a finite number in line 2, got ``"),
            ("a,b,c\n1,2,\n", "expected a class in line 2, got `nothing`"),
            ("a,b,c\n", "expected at least one row in line 2, got `none`"),
            ("", "expected a feature and a class in line 1, got `0 columns`"),
            ("only\nx\n", "expected a feature and a class in line 1, got `1 columns`"),
            ("1.5,2.5,x\n3,4,y\n", "expected names of columns in line 1, got `1.5`"),
        ] {
            let got = parse(text).unwrap_err().to_string();
            assert_eq!(got, format!("t.csv: {message}"), "{text:?}");
        }
        assert!(parse(b"a,b\n\xff,x\n").unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn an_unknown_label_column_lists_the_header() {
        let label = Label::Named("kind".into());
        let error = Table::parse("a,b\n1,x\n".as_bytes(), Path::new("t"), &label).unwrap_err();
        assert_eq!(error.to_string(), "unknown column `kind`; known: a, b");
    }

    #[test]
    fn quotes_spaces_and_carriage_returns_are_no_part_of_a_field() {
        let table = parse("a, b ,c\r\n 1 ,2,\"x, y\"\r\n3,4,\"x, y\"\r\n").unwrap();
        assert_eq!((table.features.join("|"), table.classes), ("a|b".into(), vec!["x, y".into()]));
        assert_eq!(table.dataset.labels.to_vec::<i64>().unwrap(), [0, 0]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(table) = parse(&bytes) {
                prop_assert!(table.dataset.len() < bytes.len());
            }
        }
    }
}
