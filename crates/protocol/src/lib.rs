//! What the command and the agent on a real kernel say to each other.
//!
//! The command hands the agent one [`Job`]; the agent answers with [`Record`]s, one JSON object a
//! line, as things happen. The first is [`Record::Hello`], which says whether the two are of the same
//! build. The last one is [`Record::Done`]: without it the agent did not get
//! to its end, whatever came before.
#![forbid(unsafe_code)]

mod cost;
mod hello;
mod job;
mod record;
mod test_run;

pub use cost::{Cost, CostPlan, Lookups, Tids, Timed};
pub use hello::{Build, Hello, OtherBuild};
pub use job::{Job, ProgRun, Run, Setting, Task, WorkloadSource};
pub use record::{Counts, Exit, Finding, Kernel, Lost, Record, TidCounts, Verdict};
pub use test_run::{Bytes, TestData, TestOutcome, TestProgram, TestRuns};
