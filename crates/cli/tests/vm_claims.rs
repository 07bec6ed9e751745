//! The claims on real kernels. Needs what the other tests on real kernels need; a test of its own,
//! because it is as long as all of those together.

use std::process::Command;

use serde_json::Value;

/// The claims about the kernel's own lookup: what a kernel without it cannot show.
const NATIVE_ONLY: &[&str] = &["C6", "C7", "C8", "C9", "C10", "C12"];

/// Every claim that CLAIMS.md has for kernels, as (number, verdict, evidence).
fn claims(kernel: &str) -> Vec<(String, String, String)> {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("scxlab"));
    let words = format!("claims --on vm:{kernel} --accel tcg --json -");
    let output = command.args(words.split_whitespace()).output().expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {error}"));
    assert_eq!(output.status.code(), Some(0), "{kernel}: {report:#}");
    let text = |claim: &Value, key: &str| claim[key].as_str().expect("a string").to_owned();
    let claims = report["claims"].as_array().expect("a list");
    let claim = |c| (text(c, "claim"), text(c, "verdict"), text(c, "evidence"));
    claims.iter().map(claim).collect()
}

/// C13, an insert that fails, cannot be provoked on a kernel; all others are there.
fn numbers() -> impl Iterator<Item = String> {
    (1..=16).filter(|&number| number != 13).map(|number| format!("C{number}"))
}

#[test]
fn all_claims_hold_where_tids_are_native() {
    let claims = claims("7.2");
    assert!(claims.iter().map(|(claim, ..)| claim).eq(&numbers().collect::<Vec<_>>()));
    for (claim, verdict, evidence) in claims {
        assert_eq!(verdict, "held", "{claim}: {evidence}");
    }
}

#[test]
fn the_portable_tid_holds_what_it_claims() {
    for kernel in ["7.1", "6.16"] {
        let claims = claims(kernel);
        assert!(claims.iter().map(|(claim, ..)| claim).eq(&numbers().collect::<Vec<_>>()));
        for (claim, verdict, evidence) in claims {
            let expected = match NATIVE_ONLY.contains(&claim.as_str()) {
                true => "not applicable",
                false => "held",
            };
            assert_eq!(verdict, expected, "{kernel}: {claim}: {evidence}");
        }
    }
}
