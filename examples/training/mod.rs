//! What the training programs share: options, a run from options to report, what is seen meanwhile, and how
//! a program ends.

pub(crate) mod options;
pub(crate) mod session;
mod view;

use std::process::ExitCode;

use alcyon::prelude::*;

/// The code of a program that has ended so: 0; 2 if it was asked for something that there is not; else 1.
/// Errors are printed.
pub(crate) fn exit(ended: Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.asked_wrongly() { 2 } else { 1 })
        }
    }
}
