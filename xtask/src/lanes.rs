//! The lanes, in the order in which they run. To add one, add it here.

use crate::needs::{APT, C_LINKER, CLIPPY, LIBELF, Need, PIP, QEMU, RUSTFMT, ZLIB};

/// One thing that passes, fails or is skipped.
pub struct Lane {
    pub name: &'static str,
    pub when: When,
    /// What has to be on the machine, apart from cargo and rustc.
    pub needs: &'static [Need],
    pub what: What,
}

/// Which command runs a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// `check` only: a short form of something that `test` does in full.
    Check,
    /// `check` and `test`.
    Both,
    /// `test`.
    Test,
    /// `test --slow` and `test --ci`.
    Slow,
}

/// What a lane does.
pub enum What {
    /// Runs cargo with these arguments, and these variables set.
    Cargo { args: &'static [&'static str], env: &'static [(&'static str, &'static str)] },
    /// See [`crate::hygiene`].
    Hygiene,
    /// See [`crate::bpf::test`].
    Compiled,
    /// See [`crate::kernels::test`].
    Kernels,
}

pub const LANES: &[Lane] = &[
    Lane {
        name: "fmt",
        when: When::Both,
        needs: &[RUSTFMT],
        what: What::Cargo { args: &["fmt", "--all", "--check"], env: &[] },
    },
    Lane { name: "hygiene", when: When::Both, needs: &[], what: What::Hygiene },
    Lane {
        name: "clippy",
        when: When::Both,
        needs: &[CLIPPY, C_LINKER],
        what: What::Cargo {
            args: &[
                "clippy",
                "--workspace",
                "--exclude",
                "scxlab-agent",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
            env: &[],
        },
    },
    Lane {
        name: "unit",
        when: When::Check,
        needs: &[C_LINKER],
        what: What::Cargo {
            args: &["test", "--workspace", "--exclude", "scxlab-agent", "--lib", "--bins"],
            env: &[],
        },
    },
    // Unit, integration and doc tests, with overflow checks and debug assertions.
    Lane {
        name: "test",
        when: When::Test,
        needs: &[C_LINKER],
        what: What::Cargo {
            args: &["test", "--no-fail-fast", "--workspace", "--exclude", "scxlab-agent"],
            env: &[],
        },
    },
    // The agent, which needs C libraries.
    Lane {
        name: "agent",
        when: When::Test,
        needs: &[C_LINKER, LIBELF, ZLIB],
        what: What::Cargo { args: &["test", "--package", "scxlab-agent"], env: &[] },
    },
    Lane {
        name: "agent-clippy",
        when: When::Test,
        needs: &[CLIPPY, C_LINKER, LIBELF, ZLIB],
        what: What::Cargo {
            args: &["clippy", "--package", "scxlab-agent", "--all-targets", "--", "-D", "warnings"],
            env: &[],
        },
    },
    Lane {
        name: "agent-doc",
        when: When::Test,
        needs: &[C_LINKER, LIBELF, ZLIB],
        what: What::Cargo {
            args: &["doc", "--package", "scxlab-agent", "--no-deps"],
            env: &[("RUSTDOCFLAGS", "-D warnings")],
        },
    },
    // Compiles the schedulers in BPF C, and runs them on the engine.
    Lane { name: "compiled", when: When::Test, needs: &[C_LINKER, PIP], what: What::Compiled },
    // Boots kernels of Debian in QEMU, and runs schedulers on them.
    Lane {
        name: "kernels",
        when: When::Test,
        needs: &[C_LINKER, LIBELF, ZLIB, PIP, QEMU, APT],
        what: What::Kernels,
    },
    // Every interleaving of the id table's operations, and every value that a load may see. Has a
    // target directory of its own: the flag would have all else built again.
    Lane {
        name: "loom",
        when: When::Test,
        needs: &[C_LINKER],
        what: What::Cargo {
            args: &[
                "test",
                "--release",
                "--package",
                "scx_tid",
                "--test",
                "loom",
                "--target-dir",
                "target/loom",
            ],
            env: &[("RUSTFLAGS", "--cfg loom")],
        },
    },
    Lane {
        name: "doc",
        when: When::Test,
        needs: &[C_LINKER],
        what: What::Cargo {
            args: &["doc", "--workspace", "--exclude", "scxlab-agent", "--no-deps"],
            env: &[("RUSTDOCFLAGS", "-D warnings")],
        },
    },
    // `--tests` leaves doc tests out: an example that is marked `ignore` is not meant to run.
    Lane {
        name: "slow",
        when: When::Slow,
        needs: &[C_LINKER],
        what: What::Cargo {
            args: &[
                "test",
                "--workspace",
                "--exclude",
                "scxlab-agent",
                "--release",
                "--tests",
                "--",
                "--ignored",
            ],
            env: &[],
        },
    },
];
