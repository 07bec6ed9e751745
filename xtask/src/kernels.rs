//! What running on real kernels needs, and the tests that do.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::needs::{LIBELF, Need, PIP, QEMU, ZLIB};
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

/// Sets up, and runs the tests that look into kernels and boot them.
pub fn test(root: &Path, install: bool) -> Result<()> {
    let versions: Vec<_> = TESTED.iter().map(|&version| version.to_owned()).collect();
    setup(root, &versions, install)?;
    // What the engine is to a compiled scheduler, against what the kernels are.
    cargo(
        root,
        &[
            "test",
            "--release",
            "--package",
            "scxlab-bpf",
            "--features",
            "real-kernels",
            "--test",
            "real_btf",
        ],
    )?;
    cargo(
        root,
        &[
            "test",
            "--release",
            "--package",
            "scxlab",
            "--features",
            "real-kernels",
            "--test",
            "vm",
            "--test",
            "vm_faults",
            "--",
            "--test-threads",
            "1",
        ],
    )
}

/// Nothing if there is one already.
fn fetch(root: &Path, version: &str) -> Result<()> {
    cargo(root, &["run", "--release", "--package", "scxlab", "--", "kernels", "fetch", version])
}

fn cargo(root: &Path, args: &[&str]) -> Result<()> {
    let shown = format!("cargo {}", args.join(" "));
    println!("{shown}");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(args).current_dir(root).status();
    let status = status.context("cannot run cargo")?;
    ensure!(status.success(), "`{shown}`: {status}");
    Ok(())
}
