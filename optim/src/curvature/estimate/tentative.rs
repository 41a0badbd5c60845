//! What an estimator learns on the way, and may have to forget again.
//!
//! Observing comes before the step, and a step may be refused. So what is learned counts by stages:
//!
//! ```text
//! now ──finish──▶ finished ──commit──▶ committed          a micro-batch is complete; a step is taken
//! now ◀─abandon── finished ◀──discard── committed         a backward pass fails; a step is refused
//! ```

use std::ops::{Deref, DerefMut};

/// A value that changes while batches are observed, with the two values it can go back to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tentative<T> {
    now: T,
    finished: T,
    committed: T,
}

impl<T: Clone> Tentative<T> {
    /// One that counts already.
    pub(crate) fn new(value: T) -> Self {
        Self { now: value.clone(), finished: value.clone(), committed: value }
    }

    /// A micro-batch is complete.
    pub(crate) fn finish(&mut self) {
        self.finished.clone_from(&self.now);
    }

    /// A micro-batch has failed half way.
    pub(crate) fn abandon(&mut self) {
        self.now.clone_from(&self.finished);
    }

    /// A step is taken.
    pub(crate) fn commit(&mut self) {
        self.finished.clone_from(&self.now);
        self.committed.clone_from(&self.now);
    }

    /// A step is refused, or skipped.
    pub(crate) fn discard(&mut self) {
        self.now.clone_from(&self.committed);
        self.finished.clone_from(&self.committed);
    }

    /// What a saved state may say.
    pub(crate) const fn committed(&self) -> &T {
        &self.committed
    }
}

impl<T> Deref for Tentative<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.now
    }
}

impl<T> DerefMut for Tentative<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_abandoned_or_discarded_has_never_been() {
        let mut learned = Tentative::new(1);
        *learned += 1;
        learned.finish();
        *learned += 10;
        learned.abandon();
        assert_eq!((*learned, *learned.committed()), (2, 1), "the first micro-batch stays");
        learned.discard();
        learned.abandon();
        assert_eq!(*learned, 1);
        *learned = 5;
        learned.commit();
        learned.discard();
        assert_eq!((*learned, *learned.committed()), (5, 5));
    }
}
