//! `{:?}` of an error is its sentence: that is what `fn main() -> Result<()>` prints. `{:#?}` shows the
//! variant and its fields.

use std::fmt::{Debug, Formatter, Result};

use super::Error;

impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        /// The arms of a match: each variant with the names of its fields, which are shown in this order.
        macro_rules! shown {
            ($($variant:ident { $($field:ident),+ })+) => {
                match self {
                    $(Self::$variant { $($field),+ } => {
                        f.debug_struct(stringify!($variant))$(.field(stringify!($field), $field))+.finish()
                    })+
                    // What has no field but an op: the sentence has it.
                    other => write!(f, "{other}"),
                }
            };
        }
        if !f.alternate() {
            return write!(f, "{self}");
        }
        shown! {
            Shape { op, expected, got }
            Axis { op, axis, rank }
            DType { op, expected, got }
            Device { op, left, right }
            Index { op, index, at, bound }
            Argument { op, name, expected, got }
            Unknown { what, got, known }
            NoKernel { op, device }
            NoDevice { ordinal, reason }
            MissingGradient { param }
            Uncovered { param, op }
            NotFinite { op, record, shape }
            Linalg { routine, reason }
            File { file, expected, got }
            Io { file, source }
            Checkpoint { file, missing, unexpected, misshapen }
            InLayer { path, source }
            Settings { folder, differences, stretched }
            InUse { folder, holder }
            Lost { folder, files }
            Foreign { folder, files }
            Format { file, found, known }
            Custom { op, source }
            Target { op, expected, got, at }
            Inexact { op, value }
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
