//! The agent as a VM needs it: one binary, with all its libraries inside.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where it is built, and below it `release/scxlab-agent`, where the command looks for it.
const TARGET: &str = "target/agent";

/// Builds it.
pub fn build(root: &Path) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["rustc", "--release", "--package", "scxlab-agent", "--bin", "scxlab-agent"])
        .args(["--features", "static", "--target-dir", TARGET])
        .args(["--", "-C", "target-feature=+crt-static"])
        // Tasks of a workload exec it many times a second: without relocations that is three times
        // as fast in a VM without KVM.
        .args(["-C", "relocation-model=static"])
        // libbpf-sys looks for the C libraries' archives only where it is told to.
        .env("LIBBPF_SYS_LIBRARY_PATH", library_dir("libelf.a")?)
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the agent was not built: {status}");
    println!("{}", root.join(TARGET).join("release/scxlab-agent").display());
    Ok(())
}

/// The directory in which the C compiler finds a library.
fn library_dir(library: &str) -> Result<PathBuf> {
    let output = Command::new("cc")
        .arg(format!("-print-file-name={library}"))
        .output()
        .context("cannot run cc")?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    // Without it, the name comes back as it was.
    let dir = path.parent().filter(|dir| dir.is_absolute());
    dir.map(Path::to_owned)
        .with_context(|| format!("there is no {library}: apt-get install libelf-dev zlib1g-dev"))
}
