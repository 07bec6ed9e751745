//! The tid contract, claim by claim, checked on the engine.
//!
//! Each check sets up its own machine, workload and scheduler, watches what happens, and counts
//! what it saw: a claim is held only if the situation it speaks of came up. What it saw is the
//! evidence.

mod failing;
mod identity;
mod lab;
mod lookup;
mod probe;
mod stall;
mod subs;
mod table;

pub use lab::Lab;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The situation came up, and all was as the claim says.
    Held,
    /// Something was not, or the situation did not come up.
    Broken,
    /// The place cannot show it.
    NotApplicable,
    /// It could not be tried.
    NotTried,
}

/// A claim, checked.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its number: `C1` to `C16`.
    pub claim: &'static str,
    /// What it says, in short.
    pub title: &'static str,
    /// What became of it.
    pub verdict: Verdict,
    /// What was seen.
    pub evidence: String,
}

/// What a check saw, or what broke the claim.
pub(crate) type Checked = Result<String, String>;

struct Claim {
    number: &'static str,
    title: &'static str,
    check: fn(&Lab) -> Checked,
}

const CLAIMS: &[Claim] = &[
    Claim {
        number: "C1",
        title: "every task gets a tid at fork, never 0 and never one that was handed out before",
        check: identity::c1,
    },
    Claim {
        number: "C2",
        title: "a tid stays the same from fork to death, through exec of any kind",
        check: identity::c2,
    },
    Claim {
        number: "C3",
        title: "tid_to_task finds a task from the end of its fork, or of enabling, until it is dead",
        check: lookup::c3,
    },
    Claim {
        number: "C4",
        title: "a dying task is found too, after its pid is gone, until its last switch",
        check: lookup::c4,
    },
    Claim {
        number: "C5",
        title: "from then on the lookup gives nothing, and nothing for 0 or an unknown tid",
        check: lookup::c5,
    },
    Claim {
        number: "C6",
        title: "a task that was looked up stays valid until the end of the reader's section",
        check: lookup::c6,
    },
    Claim {
        number: "C7",
        title: "with no scheduler attached the lookup gives nothing and has no other effect",
        check: lookup::c7,
    },
    Claim {
        number: "C8",
        title: "without the flag, or before the table is live, the lookup ejects the root",
        check: subs::c8,
    },
    Claim {
        number: "C9",
        title: "a sub-scheduler with the flag under a root without it is refused, undisturbing",
        check: subs::c9,
    },
    Claim {
        number: "C10",
        title: "under a root with the flag a sub-scheduler attaches and finds every task",
        check: subs::c10,
    },
    Claim {
        number: "C11",
        title: "ids come in chunks of 1024 for each CPU; a failed fork burns its id",
        check: identity::c11,
    },
    Claim {
        number: "C12",
        title: "without the flag there is no table, and tids are handed out all the same",
        check: table::c12,
    },
    Claim {
        number: "C13",
        title: "an insert that fails leaves the table as it was and warns once",
        check: table::c13,
    },
    Claim {
        number: "C14",
        title: "attach and detach in a storm leave no stale entry and miss no task",
        check: table::c14,
    },
    Claim {
        number: "C15",
        title: "qmap keyed by pid stalls under exec and exit, keyed by tid it does not",
        check: stall::c15,
    },
    Claim {
        number: "C16",
        title: "qmap's debug dump lists each queued task as pid:tid",
        check: stall::c16,
    },
];

/// Checks every claim on the engine.
pub fn check_all(seed: u64) -> Vec<Outcome> {
    let lab = Lab::new(seed);
    CLAIMS.iter().map(|claim| outcome(claim, &lab)).collect()
}

/// Checks one claim, by its number; `None` if there is no such claim.
pub fn check(number: &str, lab: &Lab) -> Option<Outcome> {
    CLAIMS.iter().find(|claim| claim.number == number).map(|claim| outcome(claim, lab))
}

/// The numbers of all claims.
pub fn numbers() -> impl Iterator<Item = &'static str> {
    CLAIMS.iter().map(|claim| claim.number)
}

/// What the claim of that number says, in short.
pub(crate) fn title(number: &str) -> Option<&'static str> {
    CLAIMS.iter().find(|claim| claim.number == number).map(|claim| claim.title)
}

fn outcome(claim: &Claim, lab: &Lab) -> Outcome {
    let (verdict, evidence) = match (claim.check)(lab) {
        Ok(evidence) => (Verdict::Held, evidence),
        Err(evidence) => (Verdict::Broken, evidence),
    };
    Outcome { claim: claim.number, title: claim.title, verdict, evidence }
}

/// An error unless `fine`.
pub(crate) fn ensure(fine: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if fine { Ok(()) } else { Err(otherwise()) }
}
