//! Where a run happens: in a VM, or on the host.

use std::fs;
use std::path::Path;

use scxlab_bpf::abi::Version;
use scxlab_kernels::Kernel;
use scxlab_vm::{Accel, Machine};

use crate::args::{MachineArgs, Place, RunArgs};
use crate::status::Failure;

/// CPUs of a VM, if nobody says. Without KVM each costs one of ours.
const CPUS: u64 = 2;

/// Where a run happens.
#[derive(Clone, Debug)]
pub enum Where {
    /// In a VM with this kernel.
    Vm(Box<Machine>, Box<Kernel>),
    /// On the host.
    Host,
}

impl Where {
    /// What was asked for.
    pub(super) fn new(args: &RunArgs) -> Result<Self, Failure> {
        let machine = &args.machine;
        match &args.on {
            Place::Vm(kernel) => {
                refuse(machine.hz.is_some(), "--hz", "a stock kernel's ticks are fixed")?;
                refuse(machine.pid_max.is_some(), "--pid-max", "only the engine has it")?;
                let (machine, kernel) = vm(kernel, machine)?;
                Ok(Self::Vm(Box::new(machine), Box::new(kernel)))
            }
            _ => {
                let host = "the host is as it is";
                refuse(machine.cpus.is_some(), "--cpus", host)?;
                refuse(machine.smt != 1, "--smt", host)?;
                refuse(machine.llcs != 1, "--llcs", host)?;
                refuse(machine.hz.is_some(), "--hz", host)?;
                refuse(machine.pid_max.is_some(), "--pid-max", host)?;
                machine.refuse_a_vm_s()?;
                Ok(Self::Host)
            }
        }
    }

    /// CPUs.
    pub fn cpus(&self) -> usize {
        match self {
            Self::Vm(machine, _) => machine.cpus,
            Self::Host => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Whether it is a VM.
    pub fn is_vm(&self) -> bool {
        matches!(self, Self::Vm(..))
    }

    /// The kernel's image, if it is a VM.
    pub fn image(&self) -> Option<&Path> {
        match self {
            Self::Vm(machine, _) => Some(&machine.image),
            Self::Host => None,
        }
    }

    /// What the engine calls this kernel.
    ///
    /// # Errors
    /// The engine has none like it.
    pub(super) fn version(&self) -> Result<Version, Failure> {
        let release = match self {
            Self::Vm(_, kernel) => kernel.release.clone(),
            Self::Host => fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(),
        };
        let numbers: Vec<_> = release.trim().splitn(3, ['.', '-', '+']).take(2).collect();
        numbers.join(".").parse().map_err(Failure::wrong)
    }

    /// As the report calls it.
    pub fn backend(&self) -> &'static str {
        if self.is_vm() { "vm" } else { "host" }
    }
}

fn refuse(given: bool, option: &str, why: &str) -> Result<(), Failure> {
    match given {
        true => Err(Failure::wrong(format_args!("{option}: {why}; leave it out here"))),
        false => Ok(()),
    }
}

/// More CPUs than that a VM is not given.
const MOST_CPUS: u64 = 64;

/// A VM with such a kernel, and the kernel.
pub(super) fn vm(kernel: &str, args: &MachineArgs) -> Result<(Machine, Kernel), Failure> {
    let cpus = args.cpus.unwrap_or(CPUS);
    if cpus > MOST_CPUS {
        return Err(Failure::wrong(format_args!("--cpus {cpus}: a VM has at most {MOST_CPUS}")));
    }
    if !cpus.is_multiple_of(args.smt * args.llcs) {
        return Err(Failure::wrong(format_args!(
            "--cpus {cpus} --smt {} --llcs {}: the CPUs are not that many times the others",
            args.smt, args.llcs
        )));
    }
    let kernel = scxlab_kernels::find(kernel)?;
    if !kernel.features.sched_ext {
        return Err(Failure::missing(format_args!(
            "{}: Linux {} has no sched_ext; it needs CONFIG_SCHED_CLASS_EXT=y, as in what `scxlab \
             kernels fetch 7.2` gets",
            kernel.image.display(),
            kernel.release
        )));
    }
    let accel = match args.accel {
        crate::args::AccelArg::Auto => Accel::Auto,
        crate::args::AccelArg::Kvm => Accel::Kvm,
        crate::args::AccelArg::Tcg => Accel::Tcg,
    };
    let (smt, llcs) = (args.smt as usize, args.llcs as usize);
    let machine = Machine {
        smt,
        llcs,
        memory: args.memory,
        accel,
        ..Machine::new(kernel.image.clone(), cpus as usize)
    };
    Ok((machine, kernel))
}
