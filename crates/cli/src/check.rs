//! `scxlab claims`.

use crate::args::ClaimsArgs;
use crate::claims::{Outcome, Verdict, check_all};
use crate::human::{count, wrap};
use crate::output::{JsonTarget, Terminal};
use crate::status::{Failure, Status};

/// The outcome as JSON.
#[derive(serde::Serialize)]
struct ClaimsReport {
    place: &'static str,
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
    args.on.require_engine()?;
    let json = JsonTarget::open(args.json.as_deref())?;
    let outcomes = check_all(args.seed);
    if !json.is_stdout() {
        let text = text(&outcomes, terminal);
        terminal.print(&text);
    }
    let broken = outcomes.iter().any(|outcome| outcome.verdict == Verdict::Broken);
    let claims = outcomes.into_iter().map(|outcome| ClaimPart {
        claim: outcome.claim,
        title: outcome.title,
        verdict: word(outcome.verdict),
        evidence: outcome.evidence,
    });
    json.write(&ClaimsReport { place: "engine", claims: claims.collect() }, terminal)?;
    Ok(if broken { Status::Failed } else { Status::Fine })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Broken => "broken",
        Verdict::NotApplicable => "not applicable",
    }
}

fn text(outcomes: &[Outcome], terminal: &Terminal) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        let padded = format!("{:<14}", word(outcome.verdict));
        let verdict = match outcome.verdict {
            Verdict::Held => terminal.good(&padded),
            Verdict::Broken => terminal.bad(&padded),
            Verdict::NotApplicable => padded,
        };
        out.push_str(&format!("{:<4} {verdict}  {}\n", outcome.claim, outcome.title));
        if outcome.verdict != Verdict::Held {
            out.push_str(&wrap(&outcome.evidence, "       ", terminal.width()));
        }
    }
    let of = |verdict| outcomes.iter().filter(|outcome| outcome.verdict == verdict).count() as u64;
    out.push_str(&format!(
        "{} on the engine: {} held, {} broken, {} not applicable\n",
        count(outcomes.len() as u64, "claim"),
        of(Verdict::Held),
        of(Verdict::Broken),
        of(Verdict::NotApplicable)
    ));
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
        let text = text(&all, &Terminal::plain(std::io::sink()));
        assert!(!text.contains("seen for C1"), "{text}");
        assert!(text.contains("C2   broken          it is so\n       seen for C2\n"), "{text}");
        assert!(text.contains("C3   not applicable  it is so\n       seen for C3\n"), "{text}");
        assert!(
            text.ends_with("3 claims on the engine: 1 held, 1 broken, 1 not applicable\n"),
            "{text}"
        );
    }
}
