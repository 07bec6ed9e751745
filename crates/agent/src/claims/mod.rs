//! The tid contract, claim by claim, checked on the kernel that runs.
//!
//! As on the engine, each check sets up its own workload and scheduler, watches, and counts what it
//! saw: a claim is held only if the situation it speaks of came up, and was not tried if that did
//! not, which is chance here. The programs that watch are in `bpf/claims`. A claim is broken by what
//! a check saw, or by a warning in the kernel's log meanwhile.

mod chunks;
mod hold;
mod lab;
mod log;
mod programs;
mod stall;
mod storm;
mod subs;
mod watch;

use std::fmt;
use std::path::Path;

use anyhow::{Error, Result, ensure};
use scxlab_protocol::{Finding, Job, Record, Verdict};

use self::On::{Any, Native};
use self::lab::Lab;
use self::log::Mark;
use crate::report::Report;
use crate::{attached, stop};

/// Claims that are checked together, in one set-up.
struct Check {
    claims: &'static [(u8, On)],
    check: fn(&Lab<'_>) -> Result<Findings>,
}

/// What each claim of a check came to. An error that is [`Broken`] breaks it.
type Findings = Vec<(u8, Result<String>)>;

/// The kernels that can show a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// All.
    Any,
    /// Those with `scx_bpf_tid_to_task()`.
    Native,
}

const CHECKS: &[Check] = &[
    Check {
        claims: &[(1, Any), (2, Any), (3, Any), (4, Any), (5, Any), (6, Native), (11, Any)],
        check: watch::check,
    },
    Check { claims: &[(7, Native)], check: programs::c7 },
    Check { claims: &[(8, Native)], check: subs::c8 },
    Check { claims: &[(9, Native)], check: subs::c9 },
    Check { claims: &[(10, Native)], check: subs::c10 },
    Check { claims: &[(12, Native)], check: programs::c12 },
    Check { claims: &[(14, Any)], check: storm::c14 },
    Check { claims: &[(15, Any)], check: stall::c15 },
    Check { claims: &[(16, Any)], check: stall::c16 },
];

/// Checks the claims of those numbers, or all if there are none.
///
/// # Errors
/// None can be checked here.
pub fn check(job: &Job, objects: &Path, only: &[u8], report: &Report) -> Result<()> {
    attached::ready()?;
    attached::stay_on_the_cpu();
    let lab = Lab::new(job, objects, report);
    for check in CHECKS {
        let wanted = |(claim, _): &(u8, On)| only.is_empty() || only.contains(claim);
        let wanted = check.claims.iter().copied().filter(wanted);
        let shown = |(_, on): &(u8, On)| *on == Any || lab.is_native();
        let (claims, others): (Vec<_>, Vec<_>) = wanted.partition(shown);
        for (claim, _) in others {
            let evidence = "this kernel has no scx_bpf_tid_to_task(): Linux has it from 7.2 on";
            say(report, claim, Verdict::NotApplicable, evidence.to_owned());
        }
        let claims: Vec<u8> = claims.into_iter().map(|(claim, _)| claim).collect();
        if claims.is_empty() {
            continue;
        }
        let names: Vec<_> = claims.iter().map(|claim| format!("C{claim}")).collect();
        report.doing(format!("checking {}", names.join(", ")));
        let mark = Mark::now();
        let found = (check.check)(&lab);
        stop::check()?;
        let warning = mark.warning();
        match found {
            Ok(findings) => {
                for (claim, result) in findings {
                    if claims.contains(&claim) {
                        conclude(report, claim, result, warning.as_deref());
                    }
                }
            }
            Err(err) => claims
                .iter()
                .map(|&claim| (claim, Err(anyhow::anyhow!("{err:#}"))))
                .for_each(|(claim, result)| conclude(report, claim, result, warning.as_deref())),
        }
    }
    Ok(())
}

fn conclude(report: &Report, claim: u8, result: Result<String>, warning: Option<&str>) {
    let (verdict, evidence) = match (result, warning) {
        (Err(err), _) if err.is::<Broken>() => (Verdict::Broken, format!("{err:#}")),
        (Ok(_), Some(line)) => (Verdict::Broken, format!("meanwhile the kernel's log got: {line}")),
        (Err(err), Some(line)) => {
            (Verdict::Broken, format!("meanwhile the kernel's log got: {line}; then: {err:#}"))
        }
        (Ok(evidence), None) => (Verdict::Held, evidence),
        (Err(err), None) => (Verdict::NotTried, format!("{err:#}")),
    };
    say(report, claim, verdict, evidence);
}

fn say(report: &Report, claim: u8, verdict: Verdict, evidence: String) {
    report.say(&Record::Claim(Finding { claim, verdict, evidence }));
}

/// What was seen that the claim excludes.
#[derive(Debug)]
struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// Breaks the claim unless `fine`.
fn holds(fine: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if fine { Ok(()) } else { Err(Error::new(Broken(otherwise()))) }
}

/// The claim was not tried unless `it_was`.
fn came_up(it_was: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    ensure!(it_was, "nothing was shown: {}", otherwise());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was said.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn concluded(result: Result<String>, warning: Option<&str>) -> (Verdict, String) {
        let said = Said::default();
        conclude(&Report::new(said.clone()), 1, result, warning);
        match serde_json::from_slice(&said.0.lock().unwrap()).expect("one record") {
            Record::Claim(Finding { claim: 1, verdict, evidence }) => (verdict, evidence),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_warning_breaks_a_claim_however_its_check_ends() {
        let not_tried = || Err(anyhow::anyhow!("no room"));
        let broken = || holds(false, || "seen".to_owned()).map(|()| String::new());
        assert_eq!(concluded(Ok("well".to_owned()), None), (Verdict::Held, "well".to_owned()));
        assert_eq!(concluded(not_tried(), None), (Verdict::NotTried, "no room".to_owned()));
        assert_eq!(concluded(broken(), None), (Verdict::Broken, "seen".to_owned()));
        for result in [Ok("well".to_owned()), not_tried()] {
            let (verdict, evidence) = concluded(result, Some("BUG: x"));
            assert_eq!(verdict, Verdict::Broken);
            assert!(evidence.contains("BUG: x"), "{evidence}");
        }
        assert_eq!(concluded(broken(), Some("BUG: x")), (Verdict::Broken, "seen".to_owned()));
    }
}
