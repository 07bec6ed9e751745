//! What runs on a real kernel: loads a scheduler through libbpf, plays the workload as real
//! processes, watches, and reports.
//!
//! [`init`] is the way in for a VM and [`host`] for a host; both come to [`job::run`], which has the
//! workload played by [`play`]. [`run`] is one scheduler under one workload, [`claims`] the contract,
//! [`cost`] what tids cost, [`test_run`] what the kernel makes of programs without an object.

pub mod affinity;
pub mod attached;
pub mod claims;
pub mod cost;
pub mod dump;
pub mod exit;
pub mod host;
pub mod init;
pub mod job;
pub mod kernel;
pub mod leak;
pub mod object;
pub mod play;
pub mod prog_runs;
pub mod report;
pub mod run;
pub mod stop;
pub mod test_run;
