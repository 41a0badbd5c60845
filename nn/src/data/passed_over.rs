//! `PassedOver`: what lies beside the pictures of a data set and is none of them, counted.

use std::collections::BTreeMap;
use std::fmt;

/// Files that a reader has passed over, by kind: hidden ones, other endings, what is no regular file.
///
/// # Example
/// ```
/// use alcyon_nn::data::PassedOver;
/// let mut none = PassedOver::default();
/// assert!(none.is_empty());
/// none.add(".webp");
/// none.add("hidden");
/// none.add(".webp");
/// assert_eq!(none.to_string(), "2 .webp, 1 hidden");
/// assert_eq!(none.count(".webp"), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver(BTreeMap<String, usize>);

impl PassedOver {
    /// One more of a kind.
    pub fn add(&mut self, kind: &str) {
        *self.0.entry(kind.to_owned()).or_default() += 1;
    }

    /// How many of a kind.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// Whether nothing was passed over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, count)) in self.0.iter().enumerate() {
            write!(f, "{}{count} {kind}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
