//! `scxlab claims` on a real kernel: the agent checks, and says claim by claim what it found.

use std::path::{Path, PathBuf};

use scxlab_protocol::{Finding, Job, Record, Task, Verdict};

use super::host::Host;
use super::place::{self, Where};
use super::{guest, objects};
use crate::args::{ClaimsArgs, MachineArgs, Place};
use crate::claims::{self, Outcome};
use crate::output::aside;
use crate::status::Failure;

/// The programs with which the agent checks, as `cargo xtask bpf` names them.
const OBJECTS: &[&str] = &["watch", "lookup", "tree", "qmap"];

/// Where the agent finds them in a VM.
const DIRECTORY: &str = "/claims";

/// The claim about what cannot be provoked on a real kernel: an insert that fails.
const ENGINE_ONLY: &str = "C13";

/// What the claims came to, on which kernel.
pub(crate) struct Claims {
    /// `uname -r`.
    pub kernel: String,
    /// Every claim that a kernel can show.
    pub outcomes: Vec<Outcome>,
}

/// Checks every claim on the kernel that was asked for.
///
/// # Errors
/// Something that this needs is missing.
pub(crate) fn check(args: &ClaimsArgs) -> Result<Claims, Failure> {
    match &args.on {
        Place::Vm(kernel) => in_a_vm(kernel, args),
        _ => on_the_host(args),
    }
}

fn in_a_vm(kernel: &str, args: &ClaimsArgs) -> Result<Claims, Failure> {
    let machine = place::vm(kernel, &MachineArgs { accel: args.accel, ..MachineArgs::default() })?;
    let file = |name: &&str| {
        let there = Path::new(DIRECTORY).join(format!("{name}.bpf.o"));
        Ok((there, objects::builtin(name)?))
    };
    let files: Vec<(PathBuf, PathBuf)> =
        OBJECTS.iter().map(file).collect::<Result<_, Failure>>()?;
    let job = job(PathBuf::from(DIRECTORY), args, machine.cpus);
    let mut guest = guest::boot(&machine, job, files)?;
    let kernel = guest.kernel().release.clone();
    let outcomes = listen(|| guest.next().map_err(Failure::missing))?;
    Ok(Claims { kernel, outcomes })
}

fn on_the_host(args: &ClaimsArgs) -> Result<Claims, Failure> {
    let mut directories = Vec::new();
    for name in OBJECTS {
        let mut path = objects::builtin(name)?;
        path.pop();
        directories.push(path);
    }
    directories.dedup();
    let [directory] = &directories[..] else {
        return Err(Failure::missing(
            "--on host: the programs that check are in more than one directory; `cargo xtask bpf` \
             puts them into one, and SCXLAB_BPF says which",
        ));
    };
    let mut host = Host::start(&job(directory.clone(), args, Where::Host.cpus()))?;
    let kernel = host.kernel().release.clone();
    let outcomes = listen(|| host.next())?;
    Ok(Claims { kernel, outcomes })
}

fn job(objects: PathBuf, args: &ClaimsArgs, cpus: usize) -> Job {
    Job { task: Task::Claims { objects, only: Vec::new() }, seed: args.seed, cpus }
}

/// Takes one record after the other, up to the last.
fn listen(
    mut next: impl FnMut() -> Result<Option<Record>, Failure>,
) -> Result<Vec<Outcome>, Failure> {
    let mut findings = Vec::new();
    let mut why = "the agent did not report it".to_owned();
    let mut doing = None;
    loop {
        match next() {
            Ok(Some(Record::Claim(finding))) => findings.push(finding),
            Ok(Some(Record::Doing { what })) => doing = Some(what),
            Ok(Some(Record::Failed { why: failed } | Record::Wrong { why: failed })) => {
                why = failed
            }
            Ok(Some(_)) => {}
            Ok(None) if findings.is_empty() => return Err(Failure::missing(why)),
            Ok(None) => break,
            Err(mut failure) => {
                if let Some(doing) = doing {
                    failure.message = format!("{doing}: {}", failure.message);
                }
                if findings.is_empty() {
                    return Err(failure);
                }
                // What was found before the end stands. All of the message is said once.
                aside(&failure);
                why = failure.message.split("; its l").next().unwrap_or_default().to_owned();
                break;
            }
        }
    }
    Ok(outcomes(findings, &why))
}

/// Each claim that a kernel can show. Those without a finding were not tried, for the reason `why`.
fn outcomes(mut findings: Vec<Finding>, why: &str) -> Vec<Outcome> {
    let outcome = |number: &'static str| {
        let title = claims::title(number)?;
        let found = findings.iter().position(|finding| format!("C{}", finding.claim) == number);
        let (verdict, evidence) = match found {
            Some(found) => {
                let finding = findings.swap_remove(found);
                (finding.verdict, finding.evidence)
            }
            None => (Verdict::NotTried, why.to_owned()),
        };
        Some(Outcome { claim: number, title, verdict: verdict.into(), evidence })
    };
    claims::numbers().filter(|&number| number != ENGINE_ONLY).filter_map(outcome).collect()
}

impl From<Verdict> for claims::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Held => Self::Held,
            Verdict::Broken => Self::Broken,
            Verdict::NotApplicable => Self::NotApplicable,
            Verdict::NotTried => Self::NotTried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reported_was_not_tried() {
        let finding = Finding { claim: 2, verdict: Verdict::Held, evidence: "seen".to_owned() };
        let outcomes = outcomes(vec![finding], "it hangs");
        assert_eq!(outcomes.len(), 15);
        for outcome in outcomes {
            let expected = match outcome.claim {
                "C2" => (claims::Verdict::Held, "seen"),
                _ => (claims::Verdict::NotTried, "it hangs"),
            };
            assert_eq!((outcome.verdict, outcome.evidence.as_str()), expected);
        }
    }
}
