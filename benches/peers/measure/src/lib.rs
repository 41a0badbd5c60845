//! What the Rust programs of the comparison share: arguments, a clock, and one line of JSON a case.
//!
//! `torch/bench.py` does the same in Python; a number is comparable only if these two agree.

use std::sync::OnceLock;
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
    /// `cpu` or `cuda`: ours alone.
    pub device: String,
    /// On a device: `f32`, `tf32` or `bf16` products.
    pub precision: String,
    /// On a device: whether passes are captured.
    pub graph: bool,
}

/// The memory of the program before it began: what is there without the work.
static BEFORE: OnceLock<Memory> = OnceLock::new();

impl Args {
    /// `--case a,b --iterations 20 --seconds 1 --device cuda --precision bf16 --graph yes` from the command
    /// line.
    ///
    /// # Panics
    /// When an argument is unknown or not a number.
    pub fn read() -> Self {
        BEFORE.get_or_init(Memory::start);
        let mut args = Self {
            cases: Vec::new(),
            iterations: 20,
            seconds: 1.0,
            device: "cpu".to_owned(),
            precision: "f32".to_owned(),
            graph: false,
        };
        let mut words = std::env::args().skip(1);
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key.as_str() {
                "--case" => args.cases = value.split(',').map(str::to_owned).collect(),
                "--iterations" => args.iterations = value.parse().expect("a number of iterations"),
                "--seconds" => args.seconds = value.parse().expect("a number of seconds"),
                "--device" => args.device = value,
                "--precision" => args.precision = value,
                "--graph" => args.graph = value == "yes",
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

/// Prints one case: its median time, the most memory that it took, and the first and last loss where there is one.
pub fn report(case: &str, times: Vec<f64>, losses: &[f32]) {
    let count = times.len();
    let ends = match losses {
        [first, .., last] => format!(r#", "loss_first": {first:.4}, "loss_last": {last:.4}"#),
        _ => String::new(),
    };
    let (ms, memory) = (median(times), Memory::most());
    println!(
        r#"{{"case": "{case}", "iterations": {count}, "ms": {ms:.4}, "peak_mb": {memory:.1}{ends}}}"#
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

/// What the system says of this process, in kB; 0 where it says nothing.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// Resident now.
    now: f64,
    /// The most since `start`.
    peak: f64,
    /// Resident now and read from files: the code that has been run.
    code: f64,
}

impl Memory {
    /// From now on the peak is counted.
    fn start() -> Self {
        // Where this is not allowed, the peak is that of the whole process.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self::read()
    }

    fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let of = |name: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0.0)
        };
        Self { now: of("VmRSS:"), peak: of("VmHWM:"), code: of("RssFile:") }
    }

    /// The most memory since the arguments were read, without code, in MB.
    fn most() -> f64 {
        let (end, start) = (Self::read(), *BEFORE.get_or_init(Self::start));
        ((end.peak - start.now) - (end.code - start.code)).max(0.0) / 1024.0
    }
}
