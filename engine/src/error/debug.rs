//! `{:?}` of an error is its sentence: that is what `fn main() -> Result<()>` prints. `{:#?}` shows the
//! variant and its fields.

use std::fmt::{Debug, Formatter, Result};

use super::Error;

impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if !f.alternate() {
            return write!(f, "{self}");
        }
        let mut show = |variant: &str, fields: &[(&str, &dyn Debug)]| {
            let mut shown = f.debug_struct(variant);
            for (name, value) in fields {
                shown.field(name, value);
            }
            shown.finish()
        };
        match self {
            Self::Shape { op, expected, got } => {
                show("Shape", &[("op", op), ("expected", expected), ("got", got)])
            }
            Self::Axis { op, axis, rank } => {
                show("Axis", &[("op", op), ("axis", axis), ("rank", rank)])
            }
            Self::DType { op, expected, got } => {
                show("DType", &[("op", op), ("expected", expected), ("got", got)])
            }
            Self::Device { op, left, right } => {
                show("Device", &[("op", op), ("left", left), ("right", right)])
            }
            Self::Index { op, index, at, bound } => {
                show("Index", &[("op", op), ("index", index), ("at", at), ("bound", bound)])
            }
            Self::Argument { op, name, expected, got } => show(
                "Argument",
                &[("op", op), ("name", name), ("expected", expected), ("got", got)],
            ),
            Self::Unknown { what, got, known } => {
                show("Unknown", &[("what", what), ("got", got), ("known", known)])
            }
            Self::NoKernel { op, device } => show("NoKernel", &[("op", op), ("device", device)]),
            Self::NoDevice { ordinal, reason } => {
                show("NoDevice", &[("ordinal", ordinal), ("reason", reason)])
            }
            Self::MissingGradient { param } => show("MissingGradient", &[("param", param)]),
            Self::Uncovered { param, op } => show("Uncovered", &[("param", param), ("op", op)]),
            Self::NotFinite { op, record, shape } => {
                show("NotFinite", &[("op", op), ("record", record), ("shape", shape)])
            }
            Self::Linalg { routine, reason } => {
                show("Linalg", &[("routine", routine), ("reason", reason)])
            }
            Self::File { file, expected, got } => {
                show("File", &[("file", file), ("expected", expected), ("got", got)])
            }
            Self::Io { file, source } => show("Io", &[("file", file), ("source", source)]),
            Self::Checkpoint { file, missing, unexpected, misshapen } => show(
                "Checkpoint",
                &[
                    ("file", file),
                    ("missing", missing),
                    ("unexpected", unexpected),
                    ("misshapen", misshapen),
                ],
            ),
            Self::InLayer { path, source } => {
                show("InLayer", &[("path", path), ("source", source)])
            }
            Self::Settings { folder, differences, stretched } => show(
                "Settings",
                &[("folder", folder), ("differences", differences), ("stretched", stretched)],
            ),
            Self::InUse { folder, holder } => {
                show("InUse", &[("folder", folder), ("holder", holder)])
            }
            Self::Lost { folder, files } => show("Lost", &[("folder", folder), ("files", files)]),
            Self::Foreign { folder, files } => {
                show("Foreign", &[("folder", folder), ("files", files)])
            }
            Self::Format { file, found, known } => {
                show("Format", &[("file", file), ("found", found), ("known", known)])
            }
            Self::Custom { op, source } => show("Custom", &[("op", op), ("source", source)]),
            Self::Target { op, expected, got, at } => {
                show("Target", &[("op", op), ("expected", expected), ("got", got), ("at", at)])
            }
            Self::Inexact { op, value } => show("Inexact", &[("op", op), ("value", value)]),
            // What has no field but an op: the sentence has it.
            other => write!(f, "{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Result;
    use super::*;
    use crate::{DType, Tensor};

    fn program() -> Result<()> {
        Tensor::ones([2], DType::F32).reshape([3]).map(drop)
    }

    #[test]
    fn a_program_whose_main_returns_an_error_prints_its_sentence() {
        let error = program().unwrap_err();
        // `Termination` prints "Error: {:?}".
        assert_eq!(format!("{error:?}"), error.to_string());
        let located = error.in_layer("encoder.3");
        assert_eq!(format!("{located:?}"), located.to_string());
    }

    #[test]
    fn the_alternate_form_shows_the_fields() {
        let error = Error::Axis { op: "sum", axis: 7, rank: 2 }.in_layer("head");
        let shown = format!("{error:#?}");
        for part in ["InLayer", "path: \"head\"", "Axis", "op: \"sum\"", "axis: 7", "rank: 2"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
}
