//! A line of a figure, with no more points than can be seen.

/// Points that a line keeps.
const POINTS: usize = 400;

/// Several neighbouring measurements: their mean, smallest and largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// The last one's step and seconds.
    pub(super) step: f64,
    pub(super) seconds: f64,
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The line of one run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    /// The number of the run: its colour.
    pub(super) run: usize,
    /// What it shows: "training", "held out".
    pub(super) name: &'static str,
    /// Whether each point is a mark of its own, joined by a line.
    pub(super) marked: bool,
    pub(super) points: Vec<Point>,
}

impl Series {
    /// Of (step, seconds, value) in order. With many of them each point stands for several.
    pub(super) fn new(
        run: usize,
        name: &'static str,
        marked: bool,
        all: &[(u64, f64, f64)],
    ) -> Self {
        let size = all.len().div_ceil(POINTS).max(1);
        let points = all.chunks(size).map(point).collect();
        Self { run, name, marked, points }
    }
}

fn point(some: &[(u64, f64, f64)]) -> Point {
    let (mut sum, mut low, mut high) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
    let (mut step, mut seconds) = (0.0, 0.0);
    for &(at, time, value) in some {
        (step, seconds) = (at as f64, time);
        sum += value;
        (low, high) = (low.min(value), high.max(value));
    }
    Point { step, seconds, mean: sum / some.len() as f64, low, high }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_stay_and_many_become_means_with_a_band() {
        let few: Vec<(u64, f64, f64)> = (1..=3).map(|i| (i, i as f64, 2.0 * i as f64)).collect();
        let series = Series::new(0, "training", false, &few);
        assert_eq!(
            series.points[2],
            Point { step: 3.0, seconds: 3.0, mean: 6.0, low: 6.0, high: 6.0 }
        );
        let many: Vec<(u64, f64, f64)> = (1..=1000).map(|i| (i, 0.0, (i % 3) as f64)).collect();
        let series = Series::new(0, "training", false, &many);
        assert_eq!(series.points.len(), 334);
        assert_eq!(
            series.points[0],
            Point { step: 3.0, seconds: 0.0, mean: 1.0, low: 0.0, high: 2.0 }
        );
        assert_eq!(series.points[333].step, 1000.0);
    }
}
