//! The kernel that an object is loaded for.

use std::collections::BTreeMap;

use crate::btf::{Btf, Kind};

/// What a loader asks of a kernel.
pub trait Target {
    /// Its types.
    fn btf(&self) -> &Btf;

    /// `LINUX_VERSION_CODE`: see [`version_code`].
    fn kernel_version(&self) -> u32;

    /// A value of its configuration as in `/proc/config.gz`: `y`, `m`, `250`, `"text"`. Also asked for
    /// `LINUX_HAS_...`, which are libbpf's own.
    fn kconfig(&self, name: &str) -> Option<String>;

    /// Whether it exports this function to BPF. Its type is that of the function in [`Target::btf`],
    /// if one is there.
    fn has_kfunc(&self, name: &str) -> bool {
        self.btf().find(name, Kind::Func).is_some()
    }

    /// Whether it has a symbol of this name, which the object declares as `void`.
    fn has_symbol(&self, name: &str) -> bool {
        let btf = self.btf();
        btf.find(name, Kind::Var).is_some() || btf.find(name, Kind::Func).is_some()
    }

    /// Who stands in for the kernel, if the kernel may have a symbol, or a field (`task_struct.comm`),
    /// that this target has not: `the engine, as Linux 7.2`. Nothing if this is the kernel, or if the
    /// kernel has not got it either.
    fn stands_in(&self, symbol: &str) -> Option<String> {
        let _ = symbol;
        None
    }

    /// Why a program of this section never runs there, so that it is left out, with a note that says so;
    /// nothing if it may run.
    fn never_runs(&self, section: &str) -> Option<&'static str> {
        let _ = section;
        None
    }

    /// Whether its verifier takes any offset into an arena, so that libbpf puts variables at the
    /// arena's end (`FEAT_LDIMM64_FULL_RANGE_OFF`): from Linux 7.0 on.
    fn takes_any_offset(&self) -> bool {
        self.kernel_version() >= version_code(7, 0, 0)
    }
}

/// `KERNEL_VERSION(major, minor, patch)`.
pub const fn version_code(major: u8, minor: u8, patch: u8) -> u32 {
    (major as u32) << 16 | (minor as u32) << 8 | patch as u32
}

/// A kernel that is known by its BTF alone: a real one's, say.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Its types.
    pub btf: Btf,
    /// `LINUX_VERSION_CODE`.
    pub version: u32,
    /// Its configuration.
    pub config: BTreeMap<String, String>,
}

impl Target for Kernel {
    fn btf(&self) -> &Btf {
        &self.btf
    }

    fn kernel_version(&self) -> u32 {
        self.version
    }

    fn kconfig(&self, name: &str) -> Option<String> {
        let known = self.config.get(name).cloned();
        // Any kernel with sched_ext has both, on the machines that it runs on.
        let of_libbpf = matches!(name, "LINUX_HAS_BPF_COOKIE" | "LINUX_HAS_SYSCALL_WRAPPER");
        known.or_else(|| of_libbpf.then(|| "1".to_owned()))
    }
}
