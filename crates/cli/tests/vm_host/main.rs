//! The command on a host with sched_ext, as root. The host is a VM: this binary boots one whose first
//! process is this binary again, which runs the real command there and looks what it leaves behind.
//!
//! `cargo xtask test` runs it. Words behind `--` choose cases by their names.

mod cases;
mod guest;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use scxlab_protocol::{Job, Record, Task};
use scxlab_vm::{Accel, Cargo, Limits, Machine, find_agent};

use self::cases::CASES;

/// Where the guest finds the names of the cases that it is to run.
const CHOSEN: &str = "/cases";

/// Where it finds the command. What the command looks for is beside it.
const COMMAND: &str = "/bin/scxlab";

/// The longest that a case may take.
const LONGEST: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::main();
    }
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_chosen = |name: &str| {
        let cases = words.iter().filter(|word| word.parse::<u64>().is_err());
        cases.clone().count() == 0 || cases.clone().any(|word| name.contains(word.as_str()))
    };
    let names: Vec<_> =
        CASES.iter().map(|(name, _)| *name).filter(|name| is_chosen(name)).collect();
    if names.is_empty() {
        return ExitCode::SUCCESS;
    }
    let failed = run(&names);
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// Has a guest run them; the names of those that failed.
fn run<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let dir = tempfile::tempdir().expect("a directory");
    let chosen = dir.path().join("cases");
    std::fs::write(&chosen, names.join("\n")).expect("it is written");
    let command = PathBuf::from(assert_cmd::cargo::cargo_bin!("scxlab"));
    let target = command.ancestors().nth(2).expect("it is in a target directory");
    let agent = find_agent().expect("there is an agent");
    let bpf = |name: &str| {
        let file = format!("{name}.bpf.o");
        (Path::new("/bin/bpf").join(&file), target.join("bpf").join(file))
    };
    let mut files = vec![
        (PathBuf::from(CHOSEN), chosen),
        (PathBuf::from(COMMAND), command.clone()),
        (PathBuf::from("/bin/scxlab-agent"), agent),
    ];
    // Those of this binary, which is the guest's `/init`, are there anyway.
    files.extend(libraries(&command).into_iter().map(|path| (path.clone(), path)));
    files.extend(["qmap", "simple", "mute", "unlinked", "watch", "lookup", "tree"].map(bpf));
    let kernel = scxlab_kernels::find("7.2").expect("there is a kernel");
    let limits = Limits { silence: LONGEST, ..Limits::default() };
    let machine = Machine { accel: Accel::Tcg, limits, ..Machine::new(kernel.image, 2) };
    let job = Job { task: Task::Probe, seed: 1, cpus: 2 };
    let init = std::env::current_exe().expect("this has a path");
    let cargo = Cargo { agent: init, job, files };
    let mut guest = machine.boot(&cargo, &Arc::default()).expect("the guest comes up");
    let mut left = names.to_vec();
    let mut failed = Vec::new();
    loop {
        match guest.next() {
            Ok(Some(Record::Doing { what })) => println!("{what} ..."),
            Ok(Some(Record::Note { text })) => {
                let name = left.remove(0);
                println!("{name}: {text}");
                if text != guest::FINE {
                    failed.push(name);
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(err) => {
                println!("{err}");
                break;
            }
        }
    }
    if !failed.is_empty() || !left.is_empty() {
        println!("the console:\n    {}", guest.log().join("\n    "));
    }
    failed.extend(left);
    failed
}

/// The shared libraries that a program needs.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("there is ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let file = |line: &str| line.split_once("=> ")?.1.split_once(" (").map(|(file, _)| file.into());
    text.lines().filter_map(file).collect()
}
