//! What the training programs share: options, a run from options to report, what is seen meanwhile, and how
//! a program ends.

pub(crate) mod options;
pub(crate) mod session;
mod signal;
mod view;

use std::process::ExitCode;

use alcyon::prelude::*;

/// The code of a program that has ended so: its own; 2 if it was asked for something that there is not, or that is
/// refused; else 1. Errors are printed.
pub(crate) fn exit(ended: Result<ExitCode>) -> ExitCode {
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.asked_wrongly() { 2 } else { 1 })
        }
    }
}
