//! Signals: the first one asks a run to end, the second ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alcyon::prelude::*;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What a process is ended with by people, their terminals and their schedulers.
#[cfg(unix)]
const ENDING: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const ENDING: [i32; 2] = [SIGINT, SIGTERM];

/// Hears them from when it is made.
#[derive(Debug, Clone)]
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let (number, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for signal in ENDING.into_iter().filter(|&signal| !is_left_alone(signal)) {
            // In this order: the first signal finds nothing to end yet.
            let heard = flag::register_conditional_shutdown(signal, 128 + signal, again.clone())
                .and_then(|_| flag::register(signal, again.clone()))
                .and_then(|_| flag::register_usize(signal, number.clone(), signal as usize));
            heard.map_err(|e| Error::io("signals", e))?;
        }
        Ok(Self(number))
    }

    /// The number of the signal that came, 0 for none.
    pub(crate) fn number(&self) -> u8 {
        self.0.load(Ordering::Relaxed) as u8
    }
}

/// Whether it is a hang-up that `nohup` told the program not to hear.
fn is_left_alone(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ![SIGINT, SIGTERM].contains(&signal) && mask >> (signal - 1) & 1 == 1
}
