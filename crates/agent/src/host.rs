//! A job on the kernel that is running: on a host, or as the child of a VM's first process.

use std::path::Path;
use std::process::ExitCode;

use crate::report::Report;
use crate::{job, stop};

/// Does the job in `file`, and says all that there is to say to standard output.
pub fn main(file: &Path) -> ExitCode {
    stop::on_signals();
    job::run(file, &Report::new(std::io::stdout()));
    ExitCode::SUCCESS
}
