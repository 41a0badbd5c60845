//! What the Rust programs of the comparison share: arguments, a clock, and one line of JSON a case.
//!
//! `torch/bench.py` does the same in Python; a number is comparable only if these two agree.

use std::time::Instant;

/// What to run and for how long.
#[derive(Clone, Debug)]
pub struct Args {
    /// The cases, in order.
    pub cases: Vec<String>,
    /// The least number of timed iterations.
    pub iterations: usize,
    /// Timing goes on for at least this long.
    pub seconds: f64,
}

impl Args {
    /// `--case a,b --iterations 20 --seconds 1` from the command line.
    ///
    /// # Panics
    /// When an argument is unknown or not a number.
    pub fn read() -> Self {
        let mut args = Self { cases: Vec::new(), iterations: 20, seconds: 1.0 };
        let mut words = std::env::args().skip(1);
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key.as_str() {
                "--case" => args.cases = value.split(',').map(str::to_owned).collect(),
                "--iterations" => args.iterations = value.parse().expect("a number of iterations"),
                "--seconds" => args.seconds = value.parse().expect("a number of seconds"),
                _ => panic!("unknown argument {key}"),
            }
        }
        args
    }

    /// The seconds of each call of `f`, after `warm` calls that are not counted.
    ///
    /// # Errors
    /// The first that `f` returns.
    pub fn time<E>(&self, warm: usize, mut f: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
        for _ in 0..warm {
            f()?;
        }
        let (mut times, begin) = (Vec::new(), Instant::now());
        while times.len() < self.iterations || begin.elapsed().as_secs_f64() < self.seconds {
            let start = Instant::now();
            f()?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(times)
    }
}

/// The middle of the times, in milliseconds.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let n = times.len();
    1e3 * 0.5 * (times[(n - 1) / 2] + times[n / 2])
}

/// Prints one case: its median time, and the first and last loss where there is one.
pub fn report(case: &str, times: Vec<f64>, losses: &[f32]) {
    let count = times.len();
    let ends = match losses {
        [first, .., last] => format!(r#", "loss_first": {first:.4}, "loss_last": {last:.4}"#),
        _ => String::new(),
    };
    let (ms, memory) = (median(times), peak_memory());
    println!(
        r#"{{"case": "{case}", "iterations": {count}, "ms": {ms:.4}, "peak_mb": {memory:.0}{ends}}}"#
    );
}

/// Labels that every peer draws the same.
pub fn labels(count: usize, classes: u32) -> Vec<i64> {
    let mut state = 12345_u64;
    let mut draw = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        i64::from((state >> 33) as u32 % classes)
    };
    (0..count).map(|_| draw()).collect()
}

/// The most memory this process has had, in MB; 0 where the system does not say.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let kilobytes = line.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
