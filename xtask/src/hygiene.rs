//! Rules that no other tool checks, over the project's files.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A source file gets a warning over this many lines,
const LONG: usize = 600;
/// and fails over this many.
const TOO_LONG: usize = 700;

/// Files whose length counts.
const SOURCE: &[&str] = &["rs", "c", "h", "sh"];

/// What stands for code that is not there yet, or was to be taken out. In two parts, so that this
/// file does not have them.
const PLACEHOLDERS: &[&str] =
    &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];

/// Names that say nothing about what is inside, as singulars.
const EMPTY_NAMES: &[&str] = &["util", "helper", "common", "misc"];

/// Crates that may have unsafe code.
const UNSAFE_CRATES: &[&str] = &["crates/tid/", "crates/agent/"];

/// Something that breaks a rule, or is about to.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Error(String),
    Warning(String),
}

/// Checks every file below `root`, and prints what it finds.
pub fn check(root: &Path) -> Result<()> {
    let files = files(root)?;
    let (mut checked, mut errors) = (0, 0);
    for path in &files {
        let Some(text) = text(&root.join(path)).with_context(|| format!("cannot read {path}"))?
        else {
            continue;
        };
        checked += 1;
        for finding in check_file(path, &text) {
            match finding {
                Finding::Error(what) => {
                    errors += 1;
                    println!("error: {what}");
                }
                Finding::Warning(what) => println!("warning: {what}"),
            }
        }
    }
    ensure!(errors == 0, "{errors} broken rules, named above");
    println!("{checked} files are fine");
    Ok(())
}

/// Files that git tracks, and those that it would with the next `git add`. In a copy of the sources
/// that git does not know: all of them.
fn files(root: &Path) -> Result<Vec<String>> {
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    match git {
        Ok(output) if output.status.success() => {
            let list = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
            Ok(list.split_terminator('\0').map(str::to_owned).collect())
        }
        _ => {
            println!("git cannot list the files, so all but build output and hidden ones count");
            let mut files = Vec::new();
            walk(root, "", &mut files)?;
            files.sort_unstable();
            Ok(files)
        }
    }
}

/// Adds the files of directory `prefix` below `root`; `prefix` is empty or ends in `/`.
fn walk(root: &Path, prefix: &str, files: &mut Vec<String>) -> Result<()> {
    let directory = root.join(prefix);
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a file name is not UTF-8")?;
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(root, &format!("{prefix}{name}/"), files)?;
        } else {
            files.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// A file's text; nothing if it is not text, or was deleted and git has not been told.
fn text(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let extension = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default();

    let lines = text.lines().count();
    if SOURCE.contains(&extension) && lines > LONG {
        let what = format!("{path}: {lines} lines; split it, {TOO_LONG} is the limit");
        findings.push(if lines > TOO_LONG { Finding::Error(what) } else { Finding::Warning(what) });
    }
    if extension == "rs" {
        check_rust(path, text, &mut findings);
    }
    findings
}

fn check_rust(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut error = |what| findings.push(Finding::Error(what));

    for part in path.trim_end_matches(".rs").split('/') {
        if is_empty_name(part) {
            error(format!("{path}: name the module after what it does, not `{part}`"));
        }
    }
    for (i, line) in text.lines().enumerate() {
        let at = format!("{path}:{}", i + 1);
        for placeholder in PLACEHOLDERS.iter().filter(|p| line.contains(**p)) {
            error(format!("{at}: `{placeholder}` is left over"));
        }
        if let Some(name) = inline_module(line).filter(|name| is_empty_name(name)) {
            error(format!("{at}: name the module after what it does, not `{name}`"));
        }
    }
    let may_be_unsafe = UNSAFE_CRATES.iter().any(|prefix| path.starts_with(prefix));
    let forbids = text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
    if is_crate_root(path) && !may_be_unsafe && !forbids {
        error(format!("{path}: a crate root needs `#![forbid(unsafe_code)]`"));
    }
}

fn is_empty_name(name: &str) -> bool {
    EMPTY_NAMES.contains(&name.strip_suffix('s').unwrap_or(name))
}

/// The name in `mod name {`. One in `mod name;` has a file, and is found by that.
fn inline_module(line: &str) -> Option<&str> {
    let declaration = line.strip_suffix('{')?.trim();
    let (before, name) = declaration.rsplit_once(' ')?;
    (before == "mod" || before.ends_with(" mod")).then_some(name)
}

/// Whether cargo takes the file for the root of a library or a program.
fn is_crate_root(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    matches!(
        (parts.next(), parts.next(), parts.next()),
        (Some("lib.rs" | "main.rs"), Some("src"), _)
            | (Some(_), Some("bin"), Some("src"))
            | (Some("main.rs"), Some(_), Some("bin"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(path: &str, text: &str) -> Vec<String> {
        check_file(path, text)
            .into_iter()
            .map(|finding| match finding {
                Finding::Error(what) => what,
                Finding::Warning(what) => panic!("only a warning: {what}"),
            })
            .collect()
    }

    #[test]
    fn long_files() {
        assert_eq!(check_file("a/b.rs", &"\n".repeat(LONG)), []);
        let warned = check_file("a/b.rs", &"\n".repeat(LONG + 1));
        assert!(matches!(warned[..], [Finding::Warning(_)]));
        let warned = check_file("a/b.rs", &"\n".repeat(TOO_LONG));
        assert!(matches!(warned[..], [Finding::Warning(_)]));
        assert_eq!(
            errors("a/b.rs", &"\n".repeat(TOO_LONG + 1)),
            ["a/b.rs: 701 lines; split it, 700 is the limit"]
        );
        assert_eq!(check_file("LICENSE", &"\n".repeat(TOO_LONG + 1)), []);
        assert_eq!(check_file("Cargo.lock", &"\n".repeat(TOO_LONG + 1)), []);
    }

    #[test]
    fn git_and_the_walk_find_this_file() {
        let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
        let root = Path::new(&root);
        let mut walked = Vec::new();
        walk(root, "", &mut walked).unwrap();
        for files in [files(root).unwrap(), walked] {
            assert!(files.iter().any(|file| file == "src/hygiene.rs"), "{files:?}");
        }
    }

    #[test]
    fn placeholders() {
        for placeholder in PLACEHOLDERS {
            let text = format!("fn f() {{\n    {placeholder}1)\n}}\n");
            assert_eq!(errors("a.rs", &text), [format!("a.rs:2: `{placeholder}` is left over")]);
            assert_eq!(check_file("a.md", &text), []);
        }
    }

    #[test]
    fn names_that_say_nothing() {
        for path in ["src/util.rs", "src/utils.rs", "tests/common/mod.rs", "src/helpers.rs"] {
            assert_eq!(errors(path, "").len(), 1, "{path}");
        }
        assert_eq!(errors("a.rs", "mod x {\n    pub mod misc {\n    }\n}\n").len(), 1);
        assert_eq!(check_file("src/common_clock.rs", "mod tests {\n}\n// the utils {\n"), []);
    }

    #[test]
    fn crate_roots_forbid_unsafe_code() {
        for path in ["src/lib.rs", "crates/x/src/main.rs", "src/bin/y.rs", "src/bin/y/main.rs"] {
            assert_eq!(errors(path, "//! Docs.\n").len(), 1, "{path}");
            assert_eq!(check_file(path, "//! Docs.\n#![forbid(unsafe_code)]\n"), []);
        }
        for path in ["crates/tid/src/lib.rs", "crates/agent/src/main.rs", "src/a.rs", "main.rs"] {
            assert_eq!(check_file(path, "//! Docs.\n"), []);
        }
    }
}
