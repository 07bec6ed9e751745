//! Fuzzing what reads compiled schedulers, with libFuzzer and the stable toolchain.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::cargo;

/// The fuzz targets: the binaries of `crates/bpf/fuzz`.
pub const TARGETS: &[&str] = &["object", "btf", "machine", "scheduler"];
/// Where they are built, and below it what they start from and what they find.
const TARGET: &str = "target/fuzz";
/// Inputs that are kept, by target: the tests take them too.
const KEPT: &str = "crates/bpf/fuzz/found";

/// What the compiler has to put into the code for libFuzzer to see where it goes: what cargo-fuzz
/// gives it, but for the sanitizers, which want a nightly one and would find little in safe code.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Seconds that one input may take, and MiB that it may use: more is a hang, or unbounded memory.
const LIMITS: &[&str] = &["-timeout=20", "-rss_limit_mb=2048", "-max_len=200000"];

/// Runs one target, or all, for so many seconds each.
pub fn run(root: &Path, target: Option<&str>, seconds: u64) -> Result<()> {
    let targets = match target {
        None => TARGETS.to_vec(),
        Some(target) if TARGETS.contains(&target) => vec![target],
        Some(target) => bail!("no fuzz target `{target}`: there are {}", TARGETS.join(", ")),
    };
    let binaries = build(root)?;
    let dir = root.join(TARGET);
    let seeds = dir.join("seeds");
    plant(root, &seeds)?;
    for target in targets {
        let corpus = dir.join("corpus").join(target);
        let found = dir.join("found");
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&found)?;
        println!("\n==== {target}, {seconds} s ====");
        let status = Command::new(binaries.join(target))
            .args(LIMITS)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/{target}-", found.display()))
            .args(["-print_final_stats=1", "-verbosity=0"])
            .args([&corpus, &seeds.join(target), &root.join(KEPT).join(target)])
            .status()?;
        ensure!(
            status.success(),
            "{target} found something: see {}; mend it, and put the input into {KEPT}/{target}, \
             from where the tests take it",
            found.display()
        );
    }
    Ok(())
}

/// Builds all of them, and says where they are.
fn build(root: &Path) -> Result<PathBuf> {
    let host = host()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = root.join(TARGET);
    // With --target, what cargo itself runs while it builds is built without the flags.
    let status = Command::new(cargo)
        .args(["build", "--release", "--target", &host, "--target-dir"])
        .arg(&target)
        .current_dir(root.join("crates/bpf/fuzz"))
        .env("RUSTFLAGS", RUSTFLAGS)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the fuzz targets were not built: {status}");
    Ok(target.join(host).join("release"))
}

/// Gives them what the compiled schedulers have to start from, if there are any.
fn plant(root: &Path, seeds: &Path) -> Result<()> {
    let objects = fs::read_dir(root.join("target/bpf")).into_iter().flatten().flatten();
    let mut objects: Vec<PathBuf> = objects.map(|entry| entry.path()).collect();
    objects.retain(|path| path.to_string_lossy().ends_with(".bpf.o"));
    objects.sort();
    if objects.is_empty() {
        println!("no scheduler is compiled to start from: `cargo xtask bpf` does that");
    }
    for target in TARGETS {
        fs::create_dir_all(seeds.join(target))?;
    }
    let example = ["run", "--release", "--package", "scxlab-bpf", "--example", "seeds", "--"];
    let paths = std::iter::once(seeds.to_owned()).chain(objects);
    let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    let args = example.into_iter().chain(paths.iter().map(String::as_str));
    cargo(root, &args.collect::<Vec<_>>(), &[])
}

/// The triple of this machine.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV does not say its host")
}
