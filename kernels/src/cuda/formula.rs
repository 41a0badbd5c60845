//! What a formula that others supply may say: an expression of numbers, and nothing else (decision 0054).
//!
//! A formula becomes a part of a kernel's text, and a kernel's text can write to any address. So a formula is read
//! here before it is compiled: arithmetic, comparisons, choices and calls of functions that compute, by this
//! grammar, in which there is no assignment, no index, no pointer and no name but those that are listed.
//!
//! ```text
//! choice  = any [ "?" choice ":" choice ]          product = unary { ("*" | "/") unary }
//! any     = all { "||" all }                       unary   = [ "-" | "+" | "!" ] unary | atom
//! all     = equal { "&&" equal }                   atom    = number | "(" choice ")" | variable
//! equal   = ordered { ("==" | "!=") ordered }              | function "(" [ choice { "," choice } ] ")"
//! ordered = sum { ("<" | "<=" | ">" | ">=") sum }
//! sum     = product { ("+" | "-") product }
//! ```
//!
//! One operand of `+ - * /` at least is a floating point number: integers, which could be divided by 0, are only
//! compared, or made numbers by `T(…)`.

use super::error::{CudaError, Result};

/// The names that a text offers to its formulas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) variables: &'static [&'static str],
    /// Beside those of the language.
    pub(super) functions: &'static [&'static str],
}

/// Functions of CUDA C++ that make a number of numbers, T itself, and those of `program.cu`.
const FUNCTIONS: [&str; 52] = [
    "T",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "copysign",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "erfcinv",
    "erfcx",
    "erfinv",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "fabs",
    "fdim",
    "floor",
    "fma",
    "fmax",
    "fmin",
    "fmod",
    "hypot",
    "infinity",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "normcdf",
    "normcdfinv",
    "pow",
    "remainder",
    "rint",
    "round",
    "rsqrt",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "tgamma",
    "trunc",
    "cospi",
    "sinpi",
];

/// The same, whose result is a number only if an argument is.
const CHOOSING: [&str; 2] = ["max", "min"];

/// Functions that answer a question, or with a number's bits: integers.
const ASKING: [&str; 4] = ["__double_as_longlong", "isfinite", "isinf", "isnan"];

/// Parentheses within parentheses: a formula is not a program, and the reader's stack has an end.
const DEEPEST: usize = 64;

/// What an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Number,
    /// An integer, or the answer to a question.
    Integer,
}

/// Reads a formula to its end.
pub(super) fn check(name: &'static str, formula: &'static str, names: &Names) -> Result<()> {
    let mut reader = Reader { text: formula.as_bytes(), at: 0, depth: 0, names };
    let read = reader.choice().and_then(|_| reader.end());
    read.map_err(|expected| CudaError::Formula { name, formula, at: reader.at, expected })
}

/// What was read, or what should have stood there.
type Read<T> = std::result::Result<T, &'static str>;

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    names: &'a Names,
}

impl Reader<'_> {
    fn choice(&mut self) -> Read<Is> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("fewer parentheses");
        }
        let mut is = self.binary(0)?;
        if self.take("?") {
            let first = self.choice()?;
            if !self.take(":") {
                return Err("`:`");
            }
            is = joined(first, self.choice()?);
        }
        self.depth -= 1;
        Ok(is)
    }

    /// Operators, from those that bind loosest on.
    fn binary(&mut self, level: usize) -> Read<Is> {
        const LEVELS: [&[&str]; 6] =
            [&["||"], &["&&"], &["==", "!="], &["<=", ">=", "<", ">"], &["+", "-"], &["*", "/"]];
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut is = self.binary(level + 1)?;
        while operators.iter().any(|operator| self.take(operator)) {
            let at = self.at;
            let right = self.binary(level + 1)?;
            is = if level < 4 { Is::Integer } else { joined(is, right) };
            if level >= 4 && is == Is::Integer {
                self.at = at;
                return Err("a floating point number, such as T(1)");
            }
        }
        Ok(is)
    }

    fn unary(&mut self) -> Read<Is> {
        let mut is_question = false;
        while let Some(&sign) = self.peek().filter(|c| b"+-!".contains(c)) {
            is_question |= sign == b'!';
            self.at += 1;
        }
        let is = self.atom()?;
        Ok(if is_question { Is::Integer } else { is })
    }

    fn atom(&mut self) -> Read<Is> {
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                let is = self.choice()?;
                if self.take(")") { Ok(is) } else { Err("`)`") }
            }
            Some(c) if c.is_ascii_digit() => Ok(self.number()),
            Some(c) if c.is_ascii_alphabetic() || *c == b'_' => self.name(),
            _ => Err("a number, a name or `(`"),
        }
    }

    fn name(&mut self) -> Read<Is> {
        let start = self.at;
        let length =
            self.text[start..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == b'_');
        self.at += length.count();
        let name = &self.text[start..self.at];
        let among = |all: &[&str]| all.iter().any(|known| known.as_bytes() == name);
        if among(self.names.variables) {
            return Ok(Is::Number);
        }
        let (asks, chooses) = (among(&ASKING), among(&CHOOSING));
        if !(asks || chooses || among(&FUNCTIONS) || among(self.names.functions)) {
            self.at = start;
            return Err("a variable of the formula or a function that computes");
        }
        let of = self.arguments()?;
        Ok(if asks {
            Is::Integer
        } else if chooses {
            of
        } else {
            Is::Number
        })
    }

    fn arguments(&mut self) -> Read<Is> {
        if !self.take("(") {
            return Err("`(`");
        }
        let mut is = Is::Integer;
        if self.take(")") {
            return Ok(is);
        }
        loop {
            is = joined(is, self.choice()?);
            if self.take(")") {
                return Ok(is);
            }
            if !self.take(",") {
                return Err("`,` or `)`");
            }
        }
    }

    /// Digits, perhaps with a point and an exponent, which make it a floating point number.
    fn number(&mut self) -> Is {
        let digits = |reader: &mut Self| {
            while reader.text.get(reader.at).is_some_and(u8::is_ascii_digit) {
                reader.at += 1;
            }
        };
        let start = self.at;
        digits(self);
        let whole = self.at;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            digits(self);
        }
        if self.text.get(self.at).is_some_and(|c| b"eE".contains(c)) {
            self.at += 1;
            self.at += usize::from(self.text.get(self.at).is_some_and(|c| b"+-".contains(c)));
            digits(self);
        }
        debug_assert!(whole > start, "called at a digit");
        if self.at > whole { Is::Number } else { Is::Integer }
    }

    fn end(&mut self) -> Read<()> {
        if self.peek().is_none() { Ok(()) } else { Err("an operator or the end") }
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<&u8> {
        while self.text.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        self.text.get(self.at)
    }

    fn take(&mut self, token: &str) -> bool {
        let _ = self.peek();
        let found = self.text[self.at..].starts_with(token.as_bytes());
        self.at += if found { token.len() } else { 0 };
        found
    }
}

fn joined(a: Is, b: Is) -> Is {
    if a == Is::Number { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names { variables: &["x", "c0"], functions: &["sigmoid"] };

    #[test]
    fn expressions_of_numbers_are_formulas() {
        for formula in [
            "x",
            "-x * x + T(1)",
            "x > T(0) ? T(1) : x < T(0) ? T(-1) : x",
            "c0 == T(0) ? T(0) : c0 * pow(x, c0 - T(1))",
            "x <= T(-3) || !(x < 1) && x != 2 ? T(1.0 / 3.0) : fmax(x, T(1e-3))",
            "sigmoid(x)*(T(1)-sigmoid(x))",
            "x == x",
            "max(x, T(2.5e+1)) / 2",
            "isnan(x) ? -infinity() : ((x))",
            "x < T(1.02) ? 0 : __double_as_longlong(x)",
        ] {
            assert_eq!(check("f", formula, &NAMES), Ok(()), "{formula}");
        }
    }

    #[test]
    fn what_could_touch_memory_or_leave_the_expression_is_none() {
        for (formula, at) in [
            ("", 0),
            ("x = T(1)", 2),
            ("x, x", 1),
            ("x; x", 1),
            ("x[0]", 1),
            ("x<:0:>", 2),
            ("*x", 0),
            ("&x", 0),
            ("*(T*)0", 0),
            ("(T*)0", 2),
            ("(double)x", 1),
            ("xs", 0),
            ("i", 0),
            ("shim", 0),
            ("asm(\"\")", 0),
            ("printf(x)", 0),
            ("x + \"\"", 4),
            ("x\n#include", 1),
            ("x // ", 3),
            ("x /* */", 3),
            ("x \\", 2),
            ("x ? x", 5),
            ("exp", 3),
            ("exp(x", 5),
            ("sigmoid(x) sigmoid(x)", 11),
            ("x{0}", 1),
            ("T{}", 1),
            ("x->y", 2),
            ("x.y", 1),
            ("1 / 0", 3),
            ("x * (1 / 0)", 8),
            ("1 % 0", 2),
            ("1 / __double_as_longlong(x)", 3),
            ("__asm__(x)", 0),
            ("T(1 / max(0, 0))", 5),
            ("1 << 99", 3),
            ("é", 0),
        ] {
            let got = check("f", formula, &NAMES);
            let there = matches!(&got, Err(CudaError::Formula { at: found, .. }) if *found == at);
            assert!(there, "{formula:?}: {got:?}");
        }
        let deep: &'static str =
            Box::leak(format!("{}x{}", "(".repeat(1 << 20), ")".repeat(1 << 20)).into());
        assert!(check("f", deep, &NAMES).is_err());
    }
}
