//! `scxlab claims` on a real kernel: the agent checks, and says claim by claim what it found.

use std::path::{Path, PathBuf};

use scxlab_protocol::{Finding, Job, Record, Task, Verdict};
use scxlab_vm::Machine;

use super::guest;
use super::host::Host;
use super::place::{self, Where};
use crate::args::{ClaimsArgs, MachineArgs, Place};
use crate::claims::{self, Outcome};
use crate::objects;
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

/// All that checking needs.
pub(crate) struct ClaimsPlan {
    place: Where,
    /// The compiled programs.
    objects: Vec<PathBuf>,
    seed: u64,
}

impl ClaimsPlan {
    /// What `scxlab claims --on vm:KERNEL` or `--on host` was asked for.
    ///
    /// # Errors
    /// The kernel or the programs are not there.
    pub(crate) fn new(args: &ClaimsArgs) -> Result<Self, Failure> {
        let place = match &args.on {
            Place::Vm(kernel) => {
                let machine = MachineArgs { accel: args.accel, ..MachineArgs::default() };
                let (machine, kernel) = place::vm(kernel, &machine)?;
                Where::Vm(Box::new(machine), Box::new(kernel))
            }
            _ => Where::Host,
        };
        let objects = OBJECTS.iter().map(|name| objects::builtin(name));
        Ok(Self { place, objects: objects.collect::<Result<_, _>>()?, seed: args.seed })
    }

    /// The kernel's image, if it is a VM.
    pub(crate) fn image(&self) -> Option<&Path> {
        self.place.image()
    }

    /// As the report calls the place.
    pub(crate) fn backend(&self) -> &'static str {
        self.place.backend()
    }

    /// Checks every claim.
    ///
    /// # Errors
    /// Something that this needs is missing.
    pub(crate) fn check(&self) -> Result<Claims, Failure> {
        match &self.place {
            Where::Vm(machine, _) => self.in_a_vm(machine),
            Where::Host => self.on_the_host(),
        }
    }

    fn in_a_vm(&self, machine: &Machine) -> Result<Claims, Failure> {
        let there = |name: &str| Path::new(DIRECTORY).join(format!("{name}.bpf.o"));
        let files = OBJECTS.iter().map(|name| there(name)).zip(self.objects.iter().cloned());
        let mut guest = guest::boot(machine, self.job(PathBuf::from(DIRECTORY)), files.collect())?;
        let kernel = guest.kernel().release.clone();
        let outcomes = listen(|| guest.next().map_err(Failure::missing))?;
        Ok(Claims { kernel, outcomes })
    }

    fn on_the_host(&self) -> Result<Claims, Failure> {
        let mut directories: Vec<_> = self.objects.iter().map(|path| path.parent()).collect();
        directories.dedup();
        let [Some(directory)] = directories[..] else {
            return Err(Failure::missing(
                "--on host: the programs that check are in more than one directory; `cargo xtask \
                 bpf` puts them into one, and SCXLAB_BPF says which",
            ));
        };
        let mut host = Host::start(&self.job(directory.to_owned()))?;
        let kernel = host.kernel().release.clone();
        let outcomes = listen(|| host.next())?;
        Ok(Claims { kernel, outcomes })
    }

    fn job(&self, objects: PathBuf) -> Job {
        let task = Task::Claims { objects, only: Vec::new() };
        Job { task, seed: self.seed, cpus: self.place.cpus() }
    }
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
