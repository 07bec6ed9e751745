//! What running on real kernels needs, and the tests that do.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::needs::{LIBELF, Need, PIP, QEMU, ZLIB};
use crate::run::cargo;
use crate::{agent, bpf};

/// What is needed of the machine.
pub const NEEDS: &[Need] = &[LIBELF, ZLIB, PIP, QEMU];

/// The kernels that the tests boot: with tids of its own, the last without, and the oldest with
/// sched_ext that Debian has.
const TESTED: &[&str] = &["7.2", "7.1", "6.16"];

/// Gets all that `--on vm:VERSION` needs: packages, the agent, the compiled schedulers, the kernel.
pub fn setup(root: &Path, versions: &[String], install: bool) -> Result<()> {
    for need in NEEDS {
        if !need.is_met() {
            ensure!(
                install,
                "{} is missing: `{}` gets it, and so does --install",
                need.name,
                need.source
            );
            need.install()?;
        }
    }
    agent::build(root)?;
    bpf::build(root, install)?;
    versions.iter().try_for_each(|version| fetch(root, version))
}

/// Sets up, and runs the tests that boot kernels.
pub fn test(root: &Path, install: bool) -> Result<()> {
    let versions: Vec<_> = TESTED.iter().map(|&version| version.to_owned()).collect();
    setup(root, &versions, install)?;
    let machine = ["test", "--release", "--package", "scxlab-bpf", "--features", "real-kernels"];
    let differential = ["--test", "differential", "--", "--nocapture", "--test-threads", "1"];
    cargo(root, &[&machine[..], &differential].concat(), &[])?;
    cargo(
        root,
        &[
            "test",
            "--release",
            "--no-fail-fast",
            "--package",
            "scxlab",
            "--features",
            "real-kernels",
            "--test",
            "vm",
            "--test",
            "vm_faults",
            "--test",
            "vm_claims",
            "--test",
            "vm_host",
            "--example",
            "cost",
            "--",
            "--test-threads",
            "1",
        ],
        &[],
    )
}

/// Compares what the engine is to a compiled scheduler with the kernels that are at hand, and with
/// these, which are fetched. No lane does that: what a mirror has of a version changes.
pub fn btf(root: &Path, versions: &[String]) -> Result<()> {
    versions.iter().try_for_each(|version| fetch(root, version))?;
    let package = ["test", "--release", "--package", "scxlab-bpf", "--features", "real-kernels"];
    cargo(root, &[&package[..], &["--test", "real_btf", "--", "--nocapture"]].concat(), &[])
}

/// Sets up, and measures what tids cost.
pub fn cost(root: &Path, args: &[String], install: bool) -> Result<()> {
    setup(root, &["7.2".to_owned()], install)?;
    let example = ["run", "--release", "--package", "scxlab", "--example", "cost", "--"];
    let args = args.iter().map(String::as_str);
    cargo(root, &example.into_iter().chain(args).collect::<Vec<_>>(), &[])
}

/// One that is the newest already is not downloaded again; the mirror is asked all the same.
fn fetch(root: &Path, version: &str) -> Result<()> {
    let scxlab = ["run", "--release", "--package", "scxlab", "--"];
    cargo(root, &[&scxlab[..], &["kernels", "fetch", version]].concat(), &[])
}
