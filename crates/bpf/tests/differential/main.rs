//! The machine against real kernels: random programs that the verifier accepts are run by
//! `BPF_PROG_TEST_RUN` and here, and all that they leave must be the same, bit for bit.
//!
//! Needs QEMU, the agent and the kernels: `cargo xtask test` sees to that and runs these. With
//! `SCXLAB_TRIALS=FIRST:COUNT` other programs are tried, by their seeds; a single one that is refused
//! is shown.

mod code;
mod generate;
mod ours;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use scxlab_bpf::machine::ArenaFault;
use scxlab_protocol::{Bytes, Job, Record, Task, TestData, TestOutcome, TestProgram, TestRuns};
use scxlab_vm::{Accel, Cargo, Machine, find_agent};

use self::generate::{ARENA_AT, Trial, VALUE};

/// The first program's seed, and how many there are.
const TRIALS: (u64, u64) = (1, 1500);
/// How often each is run.
const INPUTS: usize = 4;
/// What is known of a kernel.
struct Linux {
    version: &'static str,
    /// In whose arenas are holes of this kind.
    holes: ArenaFault,
    /// Of a hundred programs, it accepts at least so many.
    accepts: usize,
    /// What it does not have.
    lacks: &'static [&'static str],
}

const LINUX_7_2: Linux = Linux { version: "7.2", holes: ArenaFault::Skip, accepts: 95, lacks: &[] };
const LINUX_7_1: Linux =
    Linux { version: "7.1", holes: ArenaFault::SkipAtomics, accepts: 95, lacks: &[] };
/// Its verifier also takes the frame to hold less.
const LINUX_6_16: Linux = Linux {
    version: "6.16",
    holes: ArenaFault::SkipAtomics,
    accepts: 50,
    lacks: &["loads8 in arena", "loads16 in arena", "loads32 in arena"],
};

/// What a kernel makes of programs, in their order; and its release.
fn theirs(kernel: &str, trials: &[Trial]) -> (String, Vec<TestOutcome>) {
    let program = |trial: &Trial| TestProgram {
        insns: Bytes(trial.insns.iter().flat_map(|insn| insn.write()).collect()),
        inputs: trial.inputs.clone(),
    };
    let runs = TestRuns {
        value_size: VALUE as u32,
        arena_at: ARENA_AT,
        programs: trials.iter().map(program).collect(),
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    serde_json::to_writer(&file, &runs).expect("it is written");
    let programs = PathBuf::from("/programs.json");
    let cargo = Cargo {
        agent: find_agent().expect("cargo xtask agent builds it"),
        files: vec![(programs.clone(), file.path().to_owned())],
        job: Job { task: Task::TestRun { programs }, seed: 1, cpus: 1 },
    };
    let image = scxlab_kernels::find(kernel).expect("scxlab kernels fetch gets it").image;
    let machine = Machine { accel: Accel::Tcg, ..Machine::new(image, 1) };
    let mut guest = machine.boot(&cargo, &Arc::new(AtomicBool::new(false))).expect("it boots");
    let release = guest.kernel().release.clone();
    let mut all = Vec::new();
    while let Some(record) = guest.next().unwrap_or_else(|err| panic!("{err}: {:#?}", guest.log()))
    {
        match record {
            Record::TestRuns { outcomes } => all.extend(outcomes),
            Record::Failed { why } | Record::Wrong { why } => panic!("{why}"),
            _ => {}
        }
    }
    assert_eq!(all.len(), trials.len(), "each has an outcome");
    (release, all)
}

/// What differs between the results of one run; nothing if they are the same.
fn difference(ours: &Result<(u32, TestData), String>, theirs: &(u32, TestData)) -> Option<String> {
    let ours = match ours {
        Ok(ours) if ours == theirs => return None,
        Ok(ours) => ours,
        Err(why) => return Some(format!("ours ends {why}")),
    };
    let mut text = String::new();
    if ours.0 != theirs.0 {
        text += &format!("it returns {:#x}, and {:#x} on the kernel\n", ours.0, theirs.0);
    }
    let parts =
        |data: &TestData| [&data.ctx, &data.value, &data.arena].map(|bytes| bytes.0.clone());
    for ((what, ours), theirs) in
        ["context", "value", "arena"].iter().zip(parts(&ours.1)).zip(parts(&theirs.1))
    {
        for (at, (a, b)) in ours.chunks(8).zip(theirs.chunks(8)).enumerate() {
            if a != b {
                text += &format!("{what} at {}: {a:02x?}, and {b:02x?} on the kernel\n", 8 * at);
            }
        }
    }
    Some(text)
}

/// The kinds of instructions that have to have been executed.
fn wanted() -> BTreeSet<String> {
    let plain = code::arithmetic().into_iter().chain(code::conditions()).map(code::name);
    let others = [
        "ja",
        "gotol",
        "may_goto",
        "exit",
        "call function",
        "call helper",
        "imm64",
        "address of a map",
        "address of a map's value",
        "cast to kernel",
        "cast to user",
    ];
    let accesses = code::accesses().into_iter().flat_map(move |access| {
        let places = if code::in_arena(access) {
            &["frame", "value", "arena"][..]
        } else {
            &["frame", "value"]
        };
        places.iter().map(move |place| format!("{} in {place}", code::name(access)))
    });
    plain.chain(others.map(String::from)).chain(accesses).collect()
}

/// The programs that are tried.
fn trials() -> Vec<Trial> {
    let chosen = std::env::var("SCXLAB_TRIALS").ok();
    let (first, count) = match chosen.as_deref().map(|text| text.split_once(':')) {
        None => TRIALS,
        Some(Some((first, count))) => {
            (first.parse().expect("a seed"), count.parse().expect("a count"))
        }
        Some(None) => panic!("SCXLAB_TRIALS is FIRST:COUNT"),
    };
    (first..first + count).map(|seed| Trial::new(seed, INPUTS)).collect()
}

/// Compares all of them with a kernel.
fn compare(kernel: &Linux) {
    let trials = trials();
    let (release, outcomes) = theirs(kernel.version, &trials);
    let (mut accepted, mut runs, mut jited, mut steps) = (0, 0, 0, 0);
    let mut seen = BTreeSet::new();
    let mut refusals: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    let mut differences = Vec::new();
    for (trial, outcome) in trials.iter().zip(outcomes) {
        let theirs = match outcome {
            TestOutcome::Ran { runs, jited: compiled } => {
                jited += usize::from(compiled);
                runs
            }
            TestOutcome::Refused { errno, why } => {
                if trials.len() == 1 {
                    println!("{}{why}", code::listing(&trial.insns));
                }
                let last = why.lines().last().unwrap_or_default();
                // The reason, without registers and places.
                let last: String = last.chars().filter(|c| !c.is_ascii_digit()).collect();
                let text = format!("error {errno}: {last}");
                refusals.entry(text).or_insert((0, trial.seed)).0 += 1;
                continue;
            }
        };
        accepted += 1;
        steps += trial.insns.len();
        assert_eq!(theirs.len(), trial.inputs.len(), "each input has a result");
        for (input, theirs) in trial.inputs.iter().zip(&theirs) {
            runs += 1;
            let ours = ours::result(trial, input, kernel.holes, &mut seen);
            if let Some(text) = difference(&ours, theirs) {
                differences.push((trial, input, text));
                break;
            }
        }
    }
    println!(
        "Linux {release}: {} programs, {accepted} accepted ({jited} compiled for the processor), \
         {} refused; {runs} runs compared, {} differ; {} kinds of instructions, {} instructions a \
         program",
        trials.len(),
        trials.len() - accepted,
        differences.len(),
        seen.len(),
        steps / accepted.max(1),
    );
    for (text, (count, seed)) in &refusals {
        println!("  refused: {count}, seed {seed} first: {text}");
    }
    if let Some((trial, input, text)) = differences.first() {
        let seeds: Vec<_> = differences.iter().map(|(trial, ..)| trial.seed).collect();
        panic!(
            "seeds {seeds:?} differ; seed {}:\n{text}\n{}functions start at {:?}\n{input:x?}",
            trial.seed,
            code::listing(&trial.insns),
            trial.functions.iter().map(|function| function.start).collect::<Vec<_>>(),
        );
    }
    assert!(accepted * 100 >= trials.len() * kernel.accepts, "too few were accepted to show much");
    let missing = wanted().into_iter().filter(|kind| !seen.contains(kind));
    let missing: Vec<_> = missing.filter(|kind| !kernel.lacks.contains(&kind.as_str())).collect();
    assert!(missing.is_empty(), "no accepted program executes: {missing:?}");
}

#[test]
fn as_on_linux_7_2() {
    compare(&LINUX_7_2);
}

#[test]
fn as_on_linux_7_1() {
    compare(&LINUX_7_1);
}

#[test]
fn as_on_linux_6_16() {
    compare(&LINUX_6_16);
}

/// A difference would be found.
#[test]
fn the_same_program_ends_the_same_way_and_differs_where_it_differs() {
    let mut ended = 0;
    for seed in 1..200 {
        let [trial, again] = [(); 2].map(|()| Trial::new(seed, 2));
        assert_eq!((&trial.insns, &trial.inputs), (&again.insns, &again.inputs));
        let mut seen = BTreeSet::new();
        let [first, second] =
            [0, 1].map(|i| ours::result(&trial, &trial.inputs[i], ArenaFault::Skip, &mut seen));
        let Ok(mut theirs) = first.clone() else { continue };
        ended += 1;
        assert_eq!(difference(&first, &theirs), None);
        assert!(difference(&second, &theirs).is_some(), "the inputs make a difference");
        theirs.1.value.0[77] ^= 1;
        let text = difference(&first, &theirs).expect("one bit");
        assert!(text.starts_with("value at 72: "), "{text}");
    }
    assert!(ended > 190, "{ended} end by themselves");
}
