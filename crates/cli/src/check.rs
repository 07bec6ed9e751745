//! `scxlab claims`.

use crate::args::{ClaimsArgs, MachineArgs, Place};
use crate::claims::{Outcome, Verdict, check_all};
use crate::human::{count, wrap};
use crate::output::{JsonTarget, Terminal};
use crate::real;
use crate::status::{Failure, Status};

/// The outcome as JSON.
#[derive(serde::Serialize)]
struct ClaimsReport {
    place: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    claims: Vec<ClaimPart>,
}

#[derive(serde::Serialize)]
struct ClaimPart {
    claim: &'static str,
    title: &'static str,
    verdict: &'static str,
    evidence: String,
}

/// Checks every claim.
pub(crate) fn check(args: &ClaimsArgs, terminal: &mut Terminal) -> Result<Status, Failure> {
    if !matches!(args.on, Place::Vm(_)) {
        MachineArgs { accel: args.accel, ..MachineArgs::default() }.refuse_a_vm_s()?;
    }
    let plan = match args.on {
        Place::Engine => None,
        _ => Some(real::ClaimsPlan::new(args)?),
    };
    let image = plan.as_ref().and_then(real::ClaimsPlan::image).map(|image| ("kernel", image));
    let json = JsonTarget::sparing(image.as_slice(), args.json.as_deref())?;
    let (place, kernel, outcomes) = match &plan {
        None => ("engine", None, check_all(args.seed)),
        Some(plan) => {
            let real::Claims { kernel, outcomes } = plan.check()?;
            (plan.backend(), Some(kernel), outcomes)
        }
    };
    if !json.is_stdout() {
        let on = match &kernel {
            Some(kernel) => format!("Linux {kernel} ({place})"),
            None => "the engine".to_owned(),
        };
        let text = text(&outcomes, &on, terminal);
        terminal.print(&text);
    }
    let status = status(&outcomes);
    let claims = outcomes.into_iter().map(|outcome| ClaimPart {
        claim: outcome.claim,
        title: outcome.title,
        verdict: word(outcome.verdict),
        evidence: outcome.evidence,
    });
    json.write(&ClaimsReport { place, kernel, claims: claims.collect() }, terminal)?;
    Ok(status)
}

/// A report with a claim that was not tried is not green.
fn status(outcomes: &[Outcome]) -> Status {
    let any = |verdict| outcomes.iter().any(|outcome| outcome.verdict == verdict);
    if any(Verdict::Broken) {
        Status::Failed
    } else if any(Verdict::NotTried) {
        Status::Missing
    } else {
        Status::Fine
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Broken => "broken",
        Verdict::NotApplicable => "not applicable",
        Verdict::NotTried => "not tried",
    }
}

fn text(outcomes: &[Outcome], on: &str, terminal: &Terminal) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        let padded = format!("{:<14}", word(outcome.verdict));
        let verdict = match outcome.verdict {
            Verdict::Held => terminal.good(&padded),
            Verdict::Broken | Verdict::NotTried => terminal.bad(&padded),
            Verdict::NotApplicable => padded,
        };
        out.push_str(&format!("{:<4} {verdict}  {}\n", outcome.claim, outcome.title));
        if outcome.verdict != Verdict::Held {
            out.push_str(&wrap(&outcome.evidence, "       ", terminal.width()));
        }
    }
    let of = |verdict| outcomes.iter().filter(|outcome| outcome.verdict == verdict).count() as u64;
    out.push_str(&format!(
        "{} on {on}: {} held, {} broken, {} not applicable",
        count(outcomes.len() as u64, "claim"),
        of(Verdict::Held),
        of(Verdict::Broken),
        of(Verdict::NotApplicable)
    ));
    match of(Verdict::NotTried) {
        0 => out.push('\n'),
        n => out.push_str(&format!(", {n} not tried\n")),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_shown_where_it_matters() {
        let outcome = |claim, verdict| Outcome {
            claim,
            title: "it is so",
            verdict,
            evidence: format!("seen for {claim}"),
        };
        let all = [
            outcome("C1", Verdict::Held),
            outcome("C2", Verdict::Broken),
            outcome("C3", Verdict::NotApplicable),
        ];
        let text = text(&all, "the engine", &Terminal::plain(std::io::sink()));
        assert!(!text.contains("seen for C1"), "{text}");
        assert!(text.contains("C2   broken          it is so\n       seen for C2\n"), "{text}");
        assert!(text.contains("C3   not applicable  it is so\n       seen for C3\n"), "{text}");
        assert!(
            text.ends_with("3 claims on the engine: 1 held, 1 broken, 1 not applicable\n"),
            "{text}"
        );
        assert_eq!(status(&all), Status::Failed);
    }

    #[test]
    fn what_was_not_tried_is_not_green() {
        let outcome =
            |verdict| Outcome { claim: "C1", title: "", verdict, evidence: String::new() };
        let all = [outcome(Verdict::Held), outcome(Verdict::NotTried)];
        let text = text(&all, "Linux 7.2 (vm)", &Terminal::plain(std::io::sink()));
        assert!(text.ends_with("1 held, 0 broken, 0 not applicable, 1 not tried\n"), "{text}");
        assert_eq!(status(&all), Status::Missing);
        assert_eq!(status(&all[..1]), Status::Fine);
    }
}
