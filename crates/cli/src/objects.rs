//! Where the compiled schedulers are.

use std::env;
use std::path::{Path, PathBuf};

use crate::status::Failure;

/// The object of a built-in scheduler: in `SCXLAB_BPF`, or in the directory `bpf` beside the command
/// or above it, where `cargo xtask bpf` puts them.
pub(crate) fn builtin(name: &str) -> Result<PathBuf, Failure> {
    let file = format!("{name}.bpf.o");
    let tried: Vec<PathBuf> = directories().into_iter().map(|dir| dir.join(&file)).collect();
    tried.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let tried: Vec<_> = tried.iter().map(|path| path.display().to_string()).collect();
        Failure::missing(format_args!(
            "{name} is not compiled for kernels: no {file} (looked at {}); `cargo xtask bpf` compiles \
             it, or set SCXLAB_BPF to the directory where it is",
            tried.join(", ")
        ))
    })
}

fn directories() -> Vec<PathBuf> {
    match env::var_os("SCXLAB_BPF") {
        Some(dir) => vec![PathBuf::from(dir)],
        None => {
            let exe = env::current_exe().unwrap_or_default();
            exe.ancestors().skip(1).take(3).map(|dir| dir.join("bpf")).collect()
        }
    }
}

/// A file that was named on the command line.
pub(crate) fn named(name: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(name);
    if path.is_file() {
        Ok(path.to_owned())
    } else {
        Err(Failure::wrong(format_args!("scheduler {name}: there is no such file")))
    }
}
