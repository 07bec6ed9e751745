//! Every claim is held by the engine, and every check can fail: each sees the engine that is
//! broken on purpose in its own way.

use scxlab::claims::{Lab, Verdict, check, check_all, numbers};
use scxlab_engine::Sabotage;

#[test]
fn every_claim_is_held() {
    for outcome in check_all(1) {
        assert_eq!(outcome.verdict, Verdict::Held, "{}: {}", outcome.claim, outcome.evidence);
    }
}

#[test]
fn there_are_sixteen() {
    let all: Vec<_> = (1..=16).map(|n| format!("C{n}")).collect();
    assert_eq!(numbers().collect::<Vec<_>>(), all);
    assert!(check("C17", &Lab::new(1)).is_none());
}

/// What each way to break the engine is seen as.
fn sees(claim: &str, sabotage: Sabotage) {
    let lab = Lab::new(1).sabotaged(sabotage);
    let outcome = check(claim, &lab).expect("the claim exists");
    assert_eq!(outcome.verdict, Verdict::Broken, "{claim} with {sabotage:?}");
    assert!(!outcome.evidence.is_empty());
}

macro_rules! sees {
    ($($name:ident: $claim:literal, $sabotage:ident;)*) => {$(
        #[test]
        fn $name() {
            sees($claim, Sabotage::$sabotage);
        }
    )*};
}

sees! {
    c1_sees_a_repeated_chunk: "C1", C1RepeatChunk;
    c2_sees_swapped_tids: "C2", C2SwapTids;
    c3_sees_a_missing_insert: "C3", C3SkipForkInsert;
    c4_sees_a_removal_at_release: "C4", C4RemoveAtRelease;
    c5_sees_a_dead_entry: "C5", C5KeepDead;
    c6_sees_a_task_freed_under_a_reader: "C6", C6FreeAtOnce;
    c7_sees_an_effect: "C7", C7WarnDetached;
    c8_sees_the_missing_error: "C8", C8NoError;
    c9_sees_the_accepted_sub_scheduler: "C9", C9AcceptSub;
    c10_sees_the_foreign_insert: "C10", C10InsertForeign;
    c11_sees_the_cursor_move: "C11", C11CursorEveryFork;
    c12_sees_the_table: "C12", C12AlwaysTable;
    c13_sees_the_overwritten_entry: "C13", C13Overwrite;
    c14_sees_the_stale_entry: "C14", C14InsertDead;
    c15_sees_the_missing_stall: "C15", C15KeepPid;
    c16_sees_the_missing_list: "C16", C16NoDump;
}
