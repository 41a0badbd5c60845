//! Clocks: the loop asks one for the time, so that a test can hold the hands.

use std::cell::Cell;
use std::time::Instant;

/// Something that knows the time.
pub trait Clock {
    /// Seconds since some fixed moment; never fewer than before.
    fn seconds(&self) -> f64;
}

/// The time on the wall, since it was made.
#[derive(Debug, Clone)]
pub struct WallClock(Instant);

impl Default for WallClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for WallClock {
    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// A clock that goes on by the same amount whenever it is looked at: the loop looks twice a step, so
/// with `TickingClock::new(1.0)` each step takes a second.
///
/// # Example
/// ```
/// use alcyon_train::{Clock, TickingClock};
/// let clock = TickingClock::new(0.5);
/// assert_eq!([clock.seconds(), clock.seconds(), clock.seconds()], [0.0, 0.5, 1.0]);
/// ```
#[derive(Debug, Clone)]
pub struct TickingClock {
    tick: f64,
    now: Cell<f64>,
}

impl TickingClock {
    /// Starts at 0.
    #[must_use]
    pub const fn new(tick: f64) -> Self {
        Self { tick, now: Cell::new(0.0) }
    }
}

impl Clock for TickingClock {
    fn seconds(&self) -> f64 {
        self.now.replace(self.now.get() + self.tick)
    }
}
