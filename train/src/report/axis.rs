//! Axes: numbers to places, and ticks at round numbers.

/// Numbers further from 0 are not drawn: differences of them are not finite.
const LARGEST: f64 = 1e300;
/// Differences below this are none, and a logarithmic axis has no numbers below it: steps between would round
/// to 0.
const SMALLEST: f64 = 1e-290;
/// More ticks than any axis has.
const MOST: i64 = 16;

/// Whether a number has a place on some axis.
fn drawn(x: f64, log: bool) -> bool {
    x.abs() <= LARGEST && (!log || x >= SMALLEST)
}

/// One axis of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// The places of `low` and `high` in the picture.
    from: f64,
    to: f64,
}

impl Axis {
    /// Over the numbers that can be [drawn](drawn). Those that are all as good as equal get some room.
    pub(super) fn over(numbers: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for x in numbers.filter(|&x| drawn(x, log)) {
            (low, high) = (low.min(x), high.max(x));
        }
        if low > high {
            (low, high) = if log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        if high - low < SMALLEST {
            let room = if low.abs() < SMALLEST { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - room, high + room);
        }
        Self { low, high, log, from, to }
    }

    /// Where a number goes; none for one that is not drawn.
    pub(super) fn place(&self, x: f64) -> Option<f64> {
        let scale = |x: f64| if self.log { x.log10() } else { x };
        if !drawn(x, self.log) {
            return None;
        }
        let share = (scale(x) - scale(self.low)) / (scale(self.high) - scale(self.low));
        Some(self.from + (self.to - self.from) * share)
    }

    /// The ends.
    pub(super) const fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Between three and eight round numbers.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let decades = if self.log { self.high.log10() - self.low.log10() } else { 0.0 };
        if decades >= 1.0 {
            let all: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let every = (decades / 7.0).ceil().max(1.0) as i32;
            let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let powers = powers.filter(|power| power % every == 0);
            let ticks = powers.flat_map(|p| all.iter().map(move |m| m * 10_f64.powi(p)));
            return ticks.filter(|&t| self.holds(t)).collect();
        }
        let rough = (self.high - self.low) / 6.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough);
        let step = step.unwrap_or(10.0 * power);
        let first = (self.low / step).ceil() as i64;
        let ticks = (first..first + MOST).map(|k| k as f64 * step);
        ticks.take_while(|&t| t <= self.high + 1e-12 * self.high.abs()).collect()
    }

    fn holds(&self, x: f64) -> bool {
        x >= self.low * (1.0 - 1e-12) && x <= self.high * (1.0 + 1e-12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::over([0.13, 2.3].into_iter(), false, 0.0, 100.0);
        assert_eq!(axis.ticks(), [0.5, 1.0, 1.5, 2.0]);
        let axis = Axis::over([0.004, 3.0].into_iter(), true, 0.0, 100.0);
        assert_eq!(axis.ticks(), [0.01, 0.1, 1.0]);
        assert_eq!(axis.place(0.004), Some(0.0));
        assert_eq!(axis.place(3.0), Some(100.0));
        assert_eq!(axis.place(-1.0), None);
    }

    #[test]
    fn any_numbers_at_all_have_an_axis_with_a_few_ticks() {
        let least = f64::from_bits(1); // 5e-324
        let (most, one) = (f64::MAX, 1.0 + f64::EPSILON);
        let ends = [0.0, least, -least, 1e-300, 1.0, one, 1e300, -1e300, most, -most, f64::NAN];
        for (low, high) in ends.iter().flat_map(|&low| ends.map(|high| (low, high))) {
            for log in [false, true] {
                let axis = Axis::over([low, high].into_iter(), log, 0.0, 100.0);
                assert!(axis.ticks().len() <= MOST as usize, "{low} to {high}");
                for x in [low, high] {
                    let place = axis.place(x).unwrap_or(0.0);
                    assert!((0.0..=100.0).contains(&place), "{low} to {high}: {x} at {place}");
                }
            }
        }
    }

    #[test]
    fn nothing_and_one_number_still_have_an_axis() {
        for numbers in [vec![], vec![5.0], vec![0.0], vec![f64::NAN], vec![-3.0]] {
            for log in [false, true] {
                let axis = Axis::over(numbers.iter().copied(), log, 10.0, 0.0);
                let (low, high) = axis.ends();
                assert!(low < high && low.is_finite() && high.is_finite(), "{numbers:?}");
                assert!(axis.ticks().len() < 12);
            }
        }
    }
}
