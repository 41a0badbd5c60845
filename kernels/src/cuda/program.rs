//! Kernel texts, and the programs that are made of them.
//!
//! A text (`kernels/cuda/*.cu`) is written once for all element types: `S` is the type it reads and `T`
//! the type that it computes with, `float` for numbers of 16 bits and else the same; `U` is the type it
//! writes, and `FORMULA_0`, `FORMULA_1`, `FORMULA_2` are what an op fills in. A
//! program is a text with these decided; each is compiled when it is first used.
//!
//! Rules for texts, which keep the device's compiler and the emulator's happy: every kernel begins
//! with `extern "C" __global__ void NAME(` and is no template; no `#include`; dynamic shared memory
//! only through `DYN_SHARED`; sizes are `long long`; a warp operation with all lanes only where all
//! 32 are there; every sum in an order that depends on sizes alone.

use super::error::Result;
use super::formula::{self, Names};
use super::halves;
use super::slice::Scalar;

/// A kernel text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Its file's name.
    pub name: &'static str,
    /// CUDA C++.
    pub source: &'static str,
}

/// What every text begins with.
const PRELUDE: &str = include_str!("../../cuda/program.cu");

/// A text with its types and formulas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    text: Text,
    /// What it computes, for error messages.
    name: &'static str,
    reads: Scalar,
    writes: Scalar,
    formulas: [&'static str; 3],
    /// What the formulas may name, where they are not ours.
    names: Option<&'static Names>,
}

/// What tells programs apart: where the text is (a static one is only there), types and formulas.
pub(super) type Key = (usize, usize, Scalar, Scalar, [&'static str; 3]);

impl Program {
    /// A text without formulas that reads and writes one type.
    #[must_use]
    pub const fn new(text: Text, scalar: Scalar) -> Self {
        let (name, formulas) = (text.name, [""; 3]);
        Self { text, name, reads: scalar, writes: scalar, formulas, names: None }
    }

    /// The same, with formulas; `name` says what they compute.
    #[must_use]
    pub const fn with(self, name: &'static str, formulas: [&'static str; 3]) -> Self {
        Self { name, formulas, ..self }
    }

    /// The same with formulas of others', which are read before they are compiled.
    pub(super) const fn given(
        self,
        name: &'static str,
        formulas: [&'static str; 3],
        names: &'static Names,
    ) -> Self {
        Self { name, formulas, names: Some(names), ..self }
    }

    /// Reads formulas of others'.
    pub(super) fn check(&self) -> Result<()> {
        let Some(names) = self.names else { return Ok(()) };
        let given = self.formulas.iter().filter(|formula| !formula.is_empty());
        given.into_iter().try_for_each(|formula| formula::check(self.name, formula, names))
    }

    /// The type that pointers to a name of the texts are of, if it is one of theirs.
    pub(super) fn element(&self, name: &str) -> Option<Scalar> {
        match name {
            "S" => Some(self.reads),
            "T" => Some(self.reads.computed_in()),
            "U" => Some(self.writes),
            _ => Scalar::ALL.into_iter().find(|scalar| scalar.c_name() == name),
        }
    }

    /// The same, writing another type.
    #[must_use]
    pub const fn writing(self, scalar: Scalar) -> Self {
        Self { writes: scalar, ..self }
    }

    /// The name, with the types: `softmax<float>`.
    #[must_use]
    pub fn name(&self) -> String {
        let (reads, writes) = (self.reads.c_name(), self.writes.c_name());
        let types = if reads == writes { reads.into() } else { format!("{reads} to {writes}") };
        format!("{}<{types}>", self.name)
    }

    /// The whole text that the compiler gets.
    #[must_use]
    pub fn source(&self) -> String {
        let (reads, writes) = (self.reads.c_name(), self.writes.c_name());
        let computes = self.reads.computed_in().c_name();
        let halves = halves::text([self.reads, self.writes]);
        let mut source =
            format!("{halves}typedef {reads} S;\ntypedef {computes} T;\ntypedef {writes} U;\n");
        for (i, formula) in self.formulas.iter().enumerate().filter(|(_, f)| !f.is_empty()) {
            source += &format!("#define FORMULA_{i} ({formula})\n");
        }
        source + PRELUDE + self.text.source
    }

    pub(super) fn key(&self) -> Key {
        let text = self.text.source.as_bytes();
        (text.as_ptr().addr(), text.len(), self.reads, self.writes, self.formulas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_its_types_then_its_formulas_then_the_text() {
        let text = Text { name: "toy", source: "/* the text */" };
        let program = Program::new(text, Scalar::F32).with("double", ["2 * x", "", ""]);
        assert_eq!(program.name(), "double<float>");
        let source = program.source();
        let head =
            "typedef float S;\ntypedef float T;\ntypedef float U;\n#define FORMULA_0 (2 * x)\n";
        assert!(source.starts_with(head), "{source}");
        assert!(source.ends_with("/* the text */"));
        let half = Program::new(Text { name: "toy", source: "S* " }, Scalar::BF16).source();
        assert!(half.contains("typedef bf16 S;\ntypedef float T;\n"), "{half}");
        assert_eq!(program.writing(Scalar::I64).name(), "double<float to long long>");
    }
}
