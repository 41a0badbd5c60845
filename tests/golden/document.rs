//! Reading golden files: JSON whose every complaint says where in the file it is.

use std::path::{Path, PathBuf};

use engine::{DType, Shape, Tensor};
use serde_json::Value;

/// Why a replay did not come to a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The file asks for something that this version does not offer.
    NotYet(String),
    /// The file, or what came out of the engine, is wrong.
    Wrong(String),
}

/// What every step of a replay returns.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// A failure with a text of its own.
pub(crate) fn wrong<T>(text: impl Into<String>) -> Result<T> {
    Err(Failure::Wrong(text.into()))
}

/// A golden file in memory.
#[derive(Debug)]
pub(crate) struct Document {
    path: PathBuf,
    root: Value,
}

/// A place in a document: a value, and the way to it.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    value: &'a Value,
    way: String,
}

/// `{"shape": [...], "data": [...]}`: numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    /// The sizes of the axes.
    pub(crate) shape: Vec<usize>,
    /// As many finite numbers as the shape says.
    pub(crate) data: Vec<f64>,
}

impl Document {
    /// Reads a file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.or_else(|e| wrong(format!("{}: {e}", path.display())))?;
        Self::parse(path, &text)
    }

    /// Reads a text as if it stood in the file `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(root) => Ok(Self { path: path.to_owned(), root }),
            Err(error) => wrong(format!("not JSON: {error}")),
        }
    }

    /// The whole document.
    pub(crate) fn root(&self) -> Node<'_> {
        Node { value: &self.root, way: String::new() }
    }

    /// The file of another name beside this one.
    pub(crate) fn beside(&self, name: &str) -> Result<Self> {
        if name.contains(['/', '\\']) {
            return wrong(format!("`{name}` is not the name of a file in this folder"));
        }
        Self::open(&self.path.with_file_name(format!("{name}.json")))
    }
}

impl<'a> Node<'a> {
    /// The member of an object; it has to be there.
    pub(crate) fn get(&self, key: &str) -> Result<Self> {
        self.find(key).map_or_else(|| self.complain(&format!("no member `{key}`")), Ok)
    }

    /// The member of an object, if it is there.
    pub(crate) fn find(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key)?;
        Some(Self { value, way: format!("{}/{key}", self.way) })
    }

    /// All members of an object, in the order of their names.
    pub(crate) fn members(&self) -> Result<Vec<(&'a str, Self)>> {
        let Some(object) = self.value.as_object() else { return self.complain("not an object") };
        let member = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), Self { value, way: format!("{}/{key}", self.way) })
        };
        Ok(object.iter().map(member).collect())
    }

    /// All items of a list.
    pub(crate) fn items(&self) -> Result<Vec<Self>> {
        let Some(list) = self.value.as_array() else { return self.complain("not a list") };
        let item = |(i, value)| Self { value, way: format!("{}/{i}", self.way) };
        Ok(list.iter().enumerate().map(item).collect())
    }

    /// Complains about members that the replay would silently leave out.
    pub(crate) fn only(&self, known: &[&str]) -> Result<()> {
        match self.members()?.into_iter().find(|(key, _)| !known.contains(key)) {
            Some((key, _)) => self.complain(&format!("`{key}` is not among {known:?}")),
            None => Ok(()),
        }
    }

    /// A number.
    pub(crate) fn number(&self) -> Result<f64> {
        self.value.as_f64().map_or_else(|| self.complain("not a number"), Ok)
    }

    /// A number that is there, or the one that its absence means.
    pub(crate) fn number_or(&self, key: &str, absent: f64) -> Result<f64> {
        self.find(key).map_or(Ok(absent), |node| node.number())
    }

    /// A count or an index.
    pub(crate) fn count(&self) -> Result<usize> {
        let count = self.value.as_u64().and_then(|n| usize::try_from(n).ok());
        count.map_or_else(|| self.complain("not a count"), Ok)
    }

    /// A text.
    pub(crate) fn text(&self) -> Result<&'a str> {
        self.value.as_str().map_or_else(|| self.complain("not a text"), Ok)
    }

    /// `true`, or anything else (absence included: `default`).
    pub(crate) fn flag_or(&self, key: &str, absent: bool) -> Result<bool> {
        let Some(node) = self.find(key) else { return Ok(absent) };
        node.value.as_bool().map_or_else(|| node.complain("neither true nor false"), Ok)
    }

    /// Two counts: height and width.
    pub(crate) fn pair(&self) -> Result<(usize, usize)> {
        match self.items()?.as_slice() {
            [height, width] => Ok((height.count()?, width.count()?)),
            _ => self.complain("not two counts"),
        }
    }

    /// A list of numbers, or a list of such lists: a tensor without a shape of its own.
    pub(crate) fn list(&self) -> Result<Array> {
        let items = self.items()?;
        if items.first().is_some_and(|item| item.value.is_array()) {
            let rows = items.iter().map(Self::list).collect::<Result<Vec<_>>>()?;
            let inner = rows[0].shape.clone();
            if rows.iter().any(|row| row.shape != inner) {
                return self.complain("a ragged list");
            }
            let shape = [vec![rows.len()], inner].concat();
            return Ok(Array { shape, data: rows.into_iter().flat_map(|row| row.data).collect() });
        }
        let data = items.iter().map(Self::number).collect::<Result<Vec<_>>>()?;
        Ok(Array { shape: vec![data.len()], data })
    }

    /// A tensor.
    pub(crate) fn array(&self) -> Result<Array> {
        let shape = self.get("shape")?.items()?;
        let shape = shape.iter().map(Self::count).collect::<Result<Vec<_>>>()?;
        let data = self.get("data")?.items()?;
        let data = data.iter().map(Self::number).collect::<Result<Vec<_>>>()?;
        let product = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        if product != Some(data.len()) {
            return self.complain(&format!("{} numbers for the shape {shape:?}", data.len()));
        }
        Ok(Array { shape, data })
    }

    /// A failure that names this place.
    pub(crate) fn complain<T>(&self, what: &str) -> Result<T> {
        let way = if self.way.is_empty() { "/" } else { &self.way };
        wrong(format!("{way}: {what}"))
    }
}

impl Array {
    /// As a tensor of f64.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.data, Shape::new(&self.shape)?)?)
    }

    /// As a tensor of indices.
    pub(crate) fn indices(&self) -> Result<Tensor> {
        match self.data.iter().find(|x| x.fract() != 0.0) {
            Some(x) => wrong(format!("{x} is no index")),
            None => Ok(self.tensor()?.to_dtype(DType::I64)?),
        }
    }

    /// The slices along the first axis.
    pub(crate) fn slices(&self) -> Result<Vec<Self>> {
        let Some((&n, rest)) = self.shape.split_first() else { return wrong("a stack has axes") };
        let size = rest.iter().product::<usize>().max(1);
        let slice = |data: &[f64]| Self { shape: rest.to_vec(), data: data.to_vec() };
        let slices: Vec<_> = self.data.chunks_exact(size).map(slice).collect();
        if slices.len() == n { Ok(slices) } else { wrong("a stack of empty tensors") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str, read: impl FnOnce(&Node<'_>) -> Result<()>) -> String {
        let document = Document::parse(Path::new("x.json"), text).unwrap();
        match read(&document.root()) {
            Err(Failure::Wrong(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_complaint_names_the_place_in_the_file() {
        let text = r#"{"a": {"w": {"shape": [2, 2], "data": [1, 2, 3]}, "n": "x"}}"#;
        let array = complaint(text, |d| d.get("a")?.get("w")?.array().map(drop));
        assert_eq!(array, "/a/w: 3 numbers for the shape [2, 2]");
        let number = complaint(text, |d| d.get("a")?.get("n")?.number().map(drop));
        assert_eq!(number, "/a/n: not a number");
        assert_eq!(complaint(text, |d| d.get("b").map(drop)), "/: no member `b`");
        assert!(complaint(text, |d| d.get("a")?.only(&["w"])).contains("`n`"));
    }

    #[test]
    fn a_nested_list_has_a_shape_and_a_ragged_one_is_refused() {
        let list = |text| Document::parse(Path::new("x.json"), text)?.root().list();
        let array = Array { shape: vec![2, 2], data: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!(list("[[1, 2], [3, 4]]"), Ok(array.clone()));
        assert!(matches!(list("[[1, 2], [3]]"), Err(Failure::Wrong(_))));
        assert_eq!(array.slices().unwrap()[1].data, [3.0, 4.0]);
    }

    #[test]
    fn numbers_are_read_to_the_last_bit() {
        let document =
            Document::parse(Path::new("x.json"), "[0.1, 1.2345678901234567e-7]").unwrap();
        assert_eq!(document.root().list().unwrap().data, [0.1, 1.234_567_890_123_456_7e-7]);
    }
}
