//! Clocks: the loop asks one for the time, so that a test can hold the hands.

use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

/// Now, as `2026-11-28T19:56:05Z`.
pub(crate) fn utc_now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    utc(since)
}

/// A number of seconds since 1970 as a date. The calendar repeats after 400 years, of 146,097 days; a year
/// that begins in March has its leap day at its end (Hinnant 2014, "chrono-compatible low-level date algorithms").
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let dates = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_234_567_890, "2009-02-13T23:31:30Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, date) in dates {
            assert_eq!(utc(seconds), date);
        }
    }
}
