//! The agent's binary, and the shared libraries that it needs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object as _, ObjectSection as _};

use crate::VmError;

/// The agent's file name.
const NAME: &str = "scxlab-agent";

/// Where the agent is: `SCXLAB_AGENT`, or in `agent/release` of the directories above the running
/// command, where `cargo xtask agent` puts it, or beside the command.
///
/// # Errors
/// It is nowhere.
pub fn find_agent() -> Result<PathBuf, VmError> {
    if let Some(path) = env::var_os("SCXLAB_AGENT") {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { Err(VmError::NoAgent { tried: vec![path] }) };
    }
    let exe = env::current_exe().unwrap_or_default();
    let above = exe.ancestors().skip(1).take(3);
    let tried: Vec<_> = above
        .map(|dir| dir.join("agent/release").join(NAME))
        .chain([exe.with_file_name(NAME)])
        .collect();
    match tried.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(VmError::NoAgent { tried }),
    }
}

/// The files that a program needs to run, by the paths at which it looks for them: none if it is
/// linked statically. The dynamic loader is asked, so what it would load is what is found.
pub(crate) fn libraries(program: &Path, content: &[u8]) -> Result<Vec<PathBuf>, VmError> {
    let bad = |why: String| VmError::File { path: program.to_owned(), why };
    let file = object::File::parse(content)
        .map_err(|err| bad(format!("not a program that Linux runs: {err}")))?;
    let Some(section) = file.section_by_name(".interp") else { return Ok(Vec::new()) };
    let loader = section.data().map_err(|err| bad(err.to_string()))?;
    let loader = String::from_utf8_lossy(loader).trim_end_matches('\0').to_owned();
    let output = Command::new(&loader)
        .arg("--list")
        .arg(program)
        .output()
        .map_err(|err| bad(format!("its dynamic loader {loader} cannot be run: {err}")))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(bad(format!("its libraries cannot be found: {}", why.trim())));
    }
    let listed = listed(&String::from_utf8_lossy(&output.stdout));
    Ok(std::iter::once(PathBuf::from(loader)).chain(listed).collect())
}

/// The files in a dynamic loader's list, whose lines are `name => file (address)`. Lines without
/// an arrow are the loader itself, which is there already, and the kernel's own.
fn listed(text: &str) -> Vec<PathBuf> {
    let files = text.lines().filter_map(|line| line.split_once("=> ")?.1.split(" (").next());
    files.map(str::trim).filter(|file| file.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_s_list() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibelf.so.1 => /lib/libelf.so.1 (0x00007f)\n\
                    \tlibz.so.1 => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f1)\n";
        assert_eq!(listed(text), [PathBuf::from("/lib/libelf.so.1")]);
    }

    #[test]
    fn this_test_has_its_libraries() {
        let program = env::current_exe().expect("a test has a path");
        let content = std::fs::read(&program).expect("it can be read");
        let libraries = libraries(&program, &content).expect("they are found");
        assert!(libraries.iter().all(|path| path.is_file()), "{libraries:?}");
        assert!(libraries.iter().any(|path| path.to_string_lossy().contains("libc")));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let err = libraries(Path::new("some/file"), b"#!/bin/sh\n").expect_err("no ELF file");
        assert!(err.to_string().starts_with("some/file: not a program that Linux runs"), "{err}");
    }
}
