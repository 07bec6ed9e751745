//! The agent on a host.

use std::path::Path;
use std::process::ExitCode;

/// Does the job in `file`.
pub fn main(file: &Path) -> ExitCode {
    crate::init::do_job(file)
}
