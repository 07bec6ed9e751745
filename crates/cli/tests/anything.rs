//! Whatever is on the command line or in a workload file, the command answers and never panics.

use std::path::Path;

use clap::Parser as _;
use proptest::prelude::*;
use scxlab::args::Cli;
use scxlab::output::Terminal;
use scxlab::status::Status;

/// The command behind the process. `None` if the command line is refused by its parser.
fn answer(args: &[String]) -> Option<Status> {
    let args = std::iter::once("scxlab".to_owned()).chain(args.iter().cloned());
    let cli = Cli::try_parse_from(args).ok()?;
    let mut terminal = Terminal::plain(std::io::sink());
    Some(match scxlab::execute(&cli, &mut terminal) {
        Ok(status) => status,
        Err(failure) => {
            assert!(!failure.message.is_empty());
            assert!(!failure.message.contains('\n'), "{}", failure.message);
            failure.status
        }
    })
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

/// A short run on a small machine: the debug build checks the engine after every event.
fn run_file(path: &Path) -> Option<Status> {
    let path = path.to_str().expect("text");
    answer(&strings(&[
        "run",
        "qmap",
        "--cpus",
        "2",
        "--duration",
        "102ms",
        "--json",
        "-",
        "--workload",
        path,
    ]))
}

/// A good file, for others to be made from.
const GOOD: &str = r#"{
    "global": { "duration": 1, "calibration": "CPU0", "default_policy": "SCHED_OTHER" },
    "tasks": {
        "a": { "instance": 2, "loop": -1, "cpus": [0, 1],
               "phases": { "one": { "run": 300, "lock": "m", "sleep": 100, "unlock": "m" },
                           "two": { "loop": 3, "timer": { "ref": "unique", "period": 1000 } } } },
        "b": { "priority": -5, "run": 500, "fork": "c", "yield": "" },
        "c": { "instance": 0, "loop": 1, "runtime": 200, "suspend": "a" }
    },
}"#;

/// Bits that mean something to the reader of files.
fn scrap() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "//",
            "/*",
            "*/",
            "-1",
            "0",
            "1e9",
            "null",
            "99999999999999999999",
            "\"run\"",
            "\"fork\"",
            "\"loop\"",
            "\"phases\"",
            "\"tasks\"",
            "\"instance\"",
            "\"cpus\"",
            "\"exec\"",
            "\"\\ud800\"",
            "\u{0}",
            "\u{feff}",
            "é",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn workload_files_that_were_changed(
        changes in prop::collection::vec((0..GOOD.len(), 0usize..12, scrap()), 1..6),
    ) {
        let mut text = GOOD.to_owned();
        for (at, cut, scrap) in changes {
            let mut start = at.min(text.len());
            while !text.is_char_boundary(start) { start -= 1; }
            let mut end = (start + cut).min(text.len());
            while !text.is_char_boundary(end) { end += 1; }
            text.replace_range(start..end, &scrap);
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("w.json");
        std::fs::write(&path, &text).expect("written");
        prop_assert!(run_file(&path).is_some(), "{text}");
    }

    #[test]
    fn workload_files_of_scraps(scraps in prop::collection::vec(scrap(), 0..60)) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("w.json");
        std::fs::write(&path, scraps.concat()).expect("written");
        prop_assert!(run_file(&path).is_some());
    }

    #[test]
    fn workload_files_of_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("w.json");
        std::fs::write(&path, bytes).expect("written");
        prop_assert!(run_file(&path).is_some());
    }

    #[test]
    fn command_lines(
        scheduler in prop_oneof![Just("qmap".to_owned()), Just("simple".to_owned()), "\\PC{0,12}"],
        key in prop_oneof![Just("key".to_owned()), Just("slice_us".to_owned()), "\\PC{0,8}"],
        value in prop_oneof![Just("pid".to_owned()), "[0-9]{1,22}", "\\PC{0,8}"],
        cpus in prop_oneof![(1u64..9).prop_map(|n| n.to_string()), "-?[0-9]{1,22}", "\\PC{0,4}"],
        duration in prop_oneof![Just("101ms".to_owned()), "[0-9.]{0,4}[nu]s", "\\PC{0,4}"],
        seed in prop_oneof![any::<u64>().prop_map(|n| n.to_string()), "\\PC{0,6}"],
        workload in prop_oneof![
            prop::sample::select(vec!["mixed", "hogs", "exit-storm"]).prop_map(str::to_owned),
            "[a-z./-]{0,10}",
        ],
        smt in 0u32..5,
        pid_max in prop_oneof![301i64..400, any::<i64>()],
        picked in prop::collection::vec(any::<bool>(), 6),
    ) {
        let mut args = strings(&["run", "--json=-", "--duration=101ms"]);
        let options = [
            format!("--set={key}={value}"),
            format!("--cpus={cpus}"),
            format!("--seed={seed}"),
            format!("--workload={workload}"),
            format!("--smt={smt}"),
            format!("--pid-max={pid_max}"),
        ];
        args.extend(options.into_iter().zip(picked).filter(|(_, pick)| *pick).map(|(o, _)| o));
        if duration.ends_with(['n', 'u', 's']) {
            args[2] = format!("--duration={duration}");
        }
        args.push(scheduler);
        answer(&args);
    }

    #[test]
    fn words(words in prop::collection::vec("\\PC{0,8}|--?[a-z]{1,9}(=\\PC{0,5})?", 0..6)) {
        // None of them says `claims` or `demo`, which take their time.
        answer(&words);
    }
}
