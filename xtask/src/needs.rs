//! What lanes need from the machine, and how it is installed. To add something, add a constant.

use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Something that has to be on the machine.
pub struct Need {
    pub name: &'static str,
    /// A command that succeeds if and only if it is there. To look for the file is not enough:
    /// rustup puts a `cargo-clippy` in the path also when the component is not installed.
    pub probe: &'static [&'static str],
    pub source: Source,
}

/// Where it comes from.
pub enum Source {
    /// A component of the Rust toolchain.
    Rustup(&'static str),
    /// A Debian package.
    Apt(&'static str),
}

pub const RUSTFMT: Need =
    Need { name: "rustfmt", probe: &["cargo-fmt", "--version"], source: Source::Rustup("rustfmt") };

pub const CLIPPY: Need = Need {
    name: "clippy",
    probe: &["cargo-clippy", "--version"],
    source: Source::Rustup("clippy"),
};

pub const C_LINKER: Need =
    Need { name: "a C linker", probe: &["cc", "--version"], source: Source::Apt("gcc") };

/// For the agent, which has libbpf inside.
pub const LIBELF: Need = Need {
    name: "libelf's header",
    probe: &["cc", "-x", "c", "-fsyntax-only", "-include", "libelf.h", "/dev/null"],
    source: Source::Apt("libelf-dev"),
};

/// For the agent, which has libbpf inside.
pub const ZLIB: Need = Need {
    name: "zlib's header",
    probe: &["cc", "-x", "c", "-fsyntax-only", "-include", "zlib.h", "/dev/null"],
    source: Source::Apt("zlib1g-dev"),
};

/// Where kernels come from. A machine without it is another distribution's.
pub const APT: Need =
    Need { name: "apt-get", probe: &["apt-get", "--version"], source: Source::Apt("apt") };

/// For the compiler, which comes as a Python package.
pub const PIP: Need = Need {
    name: "pip",
    probe: &["python3", "-m", "pip", "--version"],
    source: Source::Apt("python3-pip"),
};

pub const QEMU: Need = Need {
    name: "QEMU",
    probe: &["qemu-system-x86_64", "--version"],
    source: Source::Apt("qemu-system-x86"),
};

impl Need {
    /// Whether the machine has it.
    pub fn is_met(&self) -> bool {
        let Some((program, args)) = self.probe.split_first() else { return true };
        Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Installs it, after naming it and every command that does so.
    pub fn install(&self) -> Result<()> {
        println!("missing: {}", self.name);
        for command in self.commands() {
            println!("installing {}: {}", self.name, command.join(" "));
            let status = Command::new(command[0])
                .args(&command[1..])
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .status()
                .with_context(|| format!("cannot run {}", command[0]))?;
            ensure!(status.success(), "`{}` failed: {status}", command.join(" "));
        }
        ensure!(self.is_met(), "installed, but `{}` still fails", self.probe.join(" "));
        Ok(())
    }

    fn commands(&self) -> Vec<Vec<&'static str>> {
        match self.source {
            Source::Rustup(component) => vec![vec!["rustup", "component", "add", component]],
            Source::Apt(package) => [
                vec!["apt-get", "update"],
                vec!["apt-get", "install", "--yes", "--no-install-recommends", package],
            ]
            .into_iter()
            .map(|command| if is_root() { command } else { [vec!["sudo"], command].concat() })
            .collect(),
        }
    }
}

/// How to get it, for people.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup(component) => write!(f, "rustup component add {component}"),
            Self::Apt(package) => write!(f, "apt-get install {package}"),
        }
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_met_when_its_probe_succeeds() {
        let need = |probe| Need { name: "it", probe, source: Source::Apt("it") };
        assert!(need(&["true"]).is_met());
        assert!(!need(&["false"]).is_met());
        assert!(!need(&["no-such-program-anywhere"]).is_met());
    }

    #[test]
    fn debian_packages_are_installed_by_apt() {
        let commands = C_LINKER.commands();
        assert!(commands[1].ends_with(&["gcc"]) && commands[1].contains(&"apt-get"));
    }
}
