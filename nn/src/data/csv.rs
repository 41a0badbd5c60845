//! Tables: a header line, numbers, and a column of class names.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use engine::{Error, Result, Tensor, room};

use super::Dataset;
use super::file;
use super::limits::{CSV, CSV_NAMES};

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
    /// The names of the classes, in the order in which they first occur; a label is a place in this list.
    pub classes: Vec<String>,
    /// The name of the column of classes.
    pub label: String,
}

impl Table {
    /// Reads the first file of a data set; it gives the data set its name, and numbers the classes. Other
    /// files of the same data set are read by [`Table::read_more`], which numbers them alike.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, else as [`Table::parse`].
    pub fn read(file: &Path, label: &Label) -> Result<Self> {
        Self::parse(file::regular(file)?, file, label)
    }

    /// Reads another file of the same data set, a test set say: its columns are this table's, in any
    /// order, and its classes are among this table's, under the same numbers.
    ///
    /// # Errors
    /// As [`Table::read`]; [`Error::File`], with the line, for a class that this table does not have, or
    /// for other columns.
    ///
    /// # Example
    /// ```
    /// use alcyon_nn::data::csv::{Label, Table};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let (train, test) = (dir.path().join("train.csv"), dir.path().join("test.csv"));
    /// std::fs::write(&train, "width,kind\n1.5,cat\n3,dog\n").unwrap();
    /// std::fs::write(&test, "width,kind\n2,dog\n").unwrap();
    /// let train = Table::read(&train, &Label::Last)?;
    /// assert_eq!(train.read_more(&test)?.dataset.labels.to_vec::<i64>()?, [1]);
    /// std::fs::write(&test, "width,kind\n2,emu\n").unwrap();
    /// assert!(train.read_more(&test).unwrap_err().to_string().ends_with("in line 2, got `emu`"));
    /// # Ok::<(), engine::Error>(())
    /// ```
    pub fn read_more(&self, file: &Path) -> Result<Self> {
        Self::parse_as(file::regular(file)?, file, &Label::Named(self.label.clone()), Some(self))
    }

    /// Reads comma-separated text with a header line; `file` is named in errors.
    ///
    /// # Errors
    /// [`Error::File`], with the line, for a row of another length, a feature that is not a finite
    /// number, an empty class, no header or no rows, or more than [`limits`](super::limits) allow;
    /// [`Error::Unknown`] for a label column that is not in the header.
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
    pub fn parse(text: impl Read, file: &Path, label: &Label) -> Result<Self> {
        Self::parse_as(text, file, label, None)
    }

    fn parse_as(text: impl Read, file: &Path, label: &Label, known: Option<&Self>) -> Result<Self> {
        let bytes = file::take(text, CSV, file)?;
        let broken = |e| broken(file, &bytes, &e);
        let mut reader = ::csv::ReaderBuilder::new().trim(::csv::Trim::All).from_reader(&bytes[..]);
        no_long_line(&bytes, file)?;
        let header = reader.headers().map_err(broken)?.clone();
        let column = label_column(&header, label, file)?;
        let names = |skip: usize| header.iter().enumerate().filter(move |&(i, _)| i != skip);
        if let Some((_, number)) = names(column).find(|(_, name)| name.parse::<f64>().is_ok()) {
            return Err(misfit(file, 1, "names of columns", number));
        }
        let found: Vec<String> = names(column).map(|(_, name)| name.to_owned()).collect();
        let features = known.map_or(&found, |table| &table.features);
        let order = places(features, &found, file)?;

        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        let mut classes = Classes::new(known);
        let mut row: Vec<f32> = room::zeros("csv", features.len())?;
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = || line_of(&bytes, record.position());
            for (i, field) in record.iter().enumerate() {
                if i == column {
                    let class = classes.number(field);
                    room::more("csv", &mut labels, 1)?;
                    labels.push(class.map_err(|expected| misfit(file, line(), &expected, field))?);
                } else {
                    let number = field.parse::<f32>().ok().filter(|x| x.is_finite());
                    row[order[i - usize::from(i > column)]] =
                        number.ok_or_else(|| misfit(file, line(), "a finite number", field))?;
                }
            }
            room::more("csv", &mut inputs, row.len())?;
            inputs.extend_from_slice(&row);
        }
        if labels.is_empty() {
            return Err(misfit(file, 2, "at least one row", "none"));
        }
        let count = labels.len();
        let inputs = Tensor::from_vec(inputs, [count, header.len() - 1])?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let labels = Tensor::from_vec(labels, [count])?;
        let dataset = Dataset::new(&name, &inputs, &labels, classes.names.len())?;
        let label = header.get(column).unwrap_or_default().to_owned();
        Ok(Self { dataset, features: features.clone(), classes: classes.names, label })
    }
}

/// That no line has too many columns: before they are cut, for each costs more than its comma.
fn no_long_line(bytes: &[u8], file: &Path) -> Result<()> {
    for (at, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let commas = line.iter().filter(|&&b| b == b',').count();
        if commas >= CSV_NAMES {
            let got = format!("{commas} commas");
            return Err(misfit(file, at + 1, &format!("at most {CSV_NAMES} columns"), &got));
        }
    }
    Ok(())
}

/// Where each feature that was found goes in the order of those that are wanted.
fn places(wanted: &[String], found: &[String], file: &Path) -> Result<Vec<usize>> {
    if wanted == found {
        return Ok((0..found.len()).collect());
    }
    let place: HashMap<&str, usize> = wanted.iter().map(String::as_str).zip(0..).collect();
    let order: Option<Vec<usize>> = found.iter().map(|name| place.get(&**name).copied()).collect();
    let mut sorted = order.clone().unwrap_or_default();
    sorted.sort_unstable();
    order.filter(|_| sorted.into_iter().eq(0..wanted.len())).ok_or_else(|| {
        misfit(file, 1, &format!("the columns {}", wanted.join(", ")), &found.join(", "))
    })
}

/// The classes of a data set: found as they come, or those of its first file.
struct Classes {
    names: Vec<String>,
    numbers: HashMap<String, i64>,
    fixed: bool,
}

impl Classes {
    fn new(known: Option<&Table>) -> Self {
        let names = known.map_or_else(Vec::new, |table| table.classes.clone());
        let numbers = names.iter().cloned().zip(0..).collect();
        Self { names, numbers, fixed: known.is_some() }
    }

    /// The number of a class; a new name gets the next one. Else, what was expected.
    fn number(&mut self, name: &str) -> std::result::Result<i64, String> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        if name.is_empty() {
            return Err("a class".into());
        }
        if self.fixed {
            let some = self.names.iter().take(12).map(String::as_str).collect::<Vec<_>>();
            return Err(format!("one of the {} classes {}", self.names.len(), some.join(", ")));
        }
        if self.names.len() >= CSV_NAMES {
            return Err(format!("at most {CSV_NAMES} classes"));
        }
        let number = self.names.len() as i64;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }
}

fn label_column(header: &::csv::StringRecord, label: &Label, file: &Path) -> Result<usize> {
    if header.len() < 2 {
        return Err(misfit(file, 1, "a feature and a class", &format!("{} columns", header.len())));
    }
    match label {
        Label::Last => Ok(header.len() - 1),
        Label::Named(name) => {
            let mut named = (0..).zip(header).filter(|(_, column)| column == name);
            match (named.next(), named.next()) {
                (Some((column, _)), None) => Ok(column),
                (Some(_), Some(_)) => Err(misfit(file, 1, &format!("one column `{name}`"), "two")),
                (None, _) => Err(Error::Unknown {
                    what: "column",
                    got: name.clone(),
                    known: header.iter().map(str::to_owned).collect(),
                }),
            }
        }
    }
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
            ("a,b,c\n1,2,\n", "expected a class in line 2, got ``"),
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
    fn a_label_whose_name_a_feature_has_too_is_refused_and_not_guessed() {
        let label = Label::Named("x".into());
        let error = Table::parse("x,x\n1,2\n".as_bytes(), Path::new("t"), &label).unwrap_err();
        assert_eq!(error.to_string(), "t: expected one column `x` in line 1, got `two`");
    }

    #[test]
    fn quotes_spaces_and_carriage_returns_are_no_part_of_a_field() {
        let table = parse("a, b ,c\r\n 1 ,2,\"x, y\"\r\n3,4,\"x, y\"\r\n").unwrap();
        assert_eq!((table.features.join("|"), table.classes), ("a|b".into(), vec!["x, y".into()]));
        assert_eq!(table.dataset.labels.to_vec::<i64>().unwrap(), [0, 0]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_name() {
        let table = parse("\u{feff}a,b,c\r\n1,2,x\r\n").unwrap();
        assert_eq!((table.features.join("|"), table.classes), ("a|b".into(), vec!["x".into()]));
    }

    #[test]
    fn the_classes_of_the_first_file_are_those_of_the_next() {
        let train = parse("w,h,kind\n1,2,cat\n3,4,dog\n").unwrap();
        let more = |text: &str| {
            let label = Label::Named("kind".into());
            Table::parse_as(text.as_bytes(), Path::new("t.csv"), &label, Some(&train))
        };
        let test = more("kind,h,w\ndog,20,10\n").unwrap();
        assert_eq!((test.classes, test.dataset.classes), (train.classes.clone(), 2));
        assert_eq!(test.dataset.labels.to_vec::<i64>().unwrap(), [1]);
        assert_eq!(test.dataset.inputs.to_vec::<f32>().unwrap(), [10.0, 20.0]);
        let said = |text| more(text).unwrap_err().to_string();
        let emu = said("w,h,kind\n1,2,dog\n1,2,emu\n");
        assert_eq!(emu, "t.csv: expected one of the 2 classes cat, dog in line 3, got `emu`");
        assert!(said("w,x,kind\n1,2,dog\n").contains("expected the columns w, h in line 1"));
        assert!(said("w,w,kind\n1,2,dog\n").contains("got `w, w`"));
        assert!(matches!(more("w,h,class\n1,2,dog\n"), Err(Error::Unknown { .. })));
    }

    #[test]
    fn a_hundred_thousand_classes_are_numbered_by_a_table_and_not_by_a_search() {
        let rows: String = (0..120_000).map(|i| format!("1,c{i}\n")).collect();
        let table = parse(format!("x,c\n{rows}")).unwrap();
        assert_eq!(table.classes.len(), 120_000);
        assert_eq!(table.dataset.labels.to_vec::<i64>().unwrap()[119_999], 119_999);
    }
}
