//! A job on the kernel that is running: on a host, or as the child of a VM's first process.

use std::path::Path;
use std::process::ExitCode;

use crate::job;
use crate::report::Report;

/// Does the job in `file`, and says all that there is to say to standard output.
pub fn main(file: &Path) -> ExitCode {
    job::run(file, &Report::new(std::io::stdout()));
    ExitCode::SUCCESS
}
