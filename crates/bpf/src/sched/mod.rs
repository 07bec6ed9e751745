//! A compiled scheduler on the engine: [`BpfScheduler`] is a
//! [`Scheduler`](scxlab_engine::Scheduler) whose operations are
//! programs of an [`Image`].
//!
//! Its memory is the scheduler's state, which lives in the engine and clones with it. A program
//! runs until it calls the kernel; then the engine does what was called, other CPUs may go on
//! meanwhile, and the program goes on. With [`Interleave`] they may go on anywhere in a program. Tasks and all that hangs on them are regions whose bytes the
//! engine has (`object`).

mod args;
mod bind;
mod bpf_func;
mod call;
mod clock;
mod contents;
mod dump;
mod dynptr;
mod failed;
mod format;
mod interleave;
mod kfunc;
mod map;
#[cfg(test)]
mod modelled;
mod object;
mod ops;
mod others;
mod percpu;
mod race;
mod state;
pub mod trial;
mod twin;
mod verify;

use std::fmt;
use std::sync::atomic::AtomicU64;

use scxlab_engine::{Ops, OpsFlags};

pub use self::contents::{MapElement, MapKey};
pub use self::dump::{Element, Key, MapDump};
pub use self::interleave::Interleave;
pub use self::others::{MAX_CONTEXT, ProgRun, ProgRunError};
pub use self::race::{Race, Side};

use self::args::Shapes;
use self::kfunc::{Arena, EventPlaces, Kfunc};
use self::object::{Layouts, Objects};
use self::ops::Programs;
use self::others::Others;
use self::state::Inner;
use crate::abi::{Abi, Version};
use crate::btf::Type;
use crate::image::Poison;
use crate::insn::pseudo;
use crate::machine::{Binding, Callee, Code, DecodeError, Full, Memory, Thread};
use crate::{Image, Insn, reachable};

/// Bytes of memory that a scheduler may use.
const MEMORY: u64 = 4 << 30;

/// Why an image cannot be run on the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It has no scheduler.
    #[error("there is no scheduler in it: no variable of type sched_ext_ops in .struct_ops")]
    NoScheduler,
    /// It has more than one: their names.
    #[error("there are {count} schedulers in it, and one is run: {all}", count = .0.len(), all = .0.join(", "))]
    ManySchedulers(Vec<String>),
    /// It needs what the engine does not have.
    #[error("the engine does not have what it needs: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// No kernel loads it.
    #[error("no kernel loads it: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// An instruction that is none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its maps are too large.
    #[error(transparent)]
    Full(#[from] Full),
}

/// Instructions of one call of an operation, at most, unless somebody wants less.
const BUDGET: u64 = 100_000_000;

/// A compiled scheduler.
pub struct BpfScheduler {
    image: Image,
    code: Code,
    ops: Ops,
    programs: Programs,
    others: Others,
    /// What each of the image's kernel functions is.
    kfuncs: Vec<Kfunc>,
    layouts: Layouts,
    shapes: Shapes,
    events: EventPlaces,
    arena: Option<Arena>,
    left_out: Vec<String>,
    /// The kernel that it was relocated for.
    version: Version,
    /// `cid_shard_size`: CPUs of a shard, 0 for as many as the kernel likes.
    shard_size: u32,
    /// What it counts, by name: address, bytes.
    counters: Vec<(String, u64, usize)>,
    /// The address of each map's value, or of its arena; 0 for other maps.
    bases: Vec<u64>,
    /// As it is when it is attached.
    initial: Inner,
    interleave: Interleave,
    /// Programs that were cloned in their middle.
    twins: AtomicU64,
    /// [`BpfScheduler::budgeted`].
    budget: u64,
}

impl fmt::Debug for BpfScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BpfScheduler").field("ops", &self.ops).finish_non_exhaustive()
    }
}

impl BpfScheduler {
    /// Takes an image that was relocated for this kernel.
    ///
    /// # Errors
    /// It has not exactly one scheduler, or no kernel loads it, or it needs what the engine does not
    /// have: each such thing is named.
    pub fn new(image: Image, abi: &Abi) -> Result<Self, LoadError> {
        let ops = match &image.struct_ops[..] {
            [ops] => ops.clone(),
            [] => return Err(LoadError::NoScheduler),
            many => {
                let names = many.iter().map(|ops| ops.name.clone());
                return Err(LoadError::ManySchedulers(names.collect()));
            }
        };
        let (mut refused, mut left_out) = (Vec::new(), Vec::new());
        let mut missing = image.lacking.clone();
        let programs = Programs::new(&image, &ops, abi.version(), &mut missing);
        let layouts = Layouts::new(abi).map_err(|what| LoadError::Missing(vec![what]))?;
        let (mut memory, mut objects) = (Memory::new(MEMORY), Objects::default());
        let (binding, maps) = bind::bind(
            &image,
            abi,
            &mut memory,
            (&mut objects, &layouts),
            (&mut missing, &mut refused),
            &mut left_out,
        )?;
        let kfuncs = kfuncs(&image, &mut missing);
        let others = Others::new(&image, &mut missing, &mut refused);
        verify::operations(&image, &ops, abi, &mut refused);
        if !refused.is_empty() {
            return Err(LoadError::Refused(refused));
        }
        if !missing.is_empty() {
            return Err(LoadError::Missing(missing));
        }
        let code = Code::decode(&image, &binding)?;
        let number = |name| ops.number(name).unwrap_or(0);
        // A kernel that still has it does nothing for it: validate_ops() of Linux 6.16 to 7.0.
        let noop = abi.number("SCX_OPS_HAS_CGROUP_WEIGHT").map_or(0, |flag| flag as u64);
        let data = Ops {
            name: ops.text("name").unwrap_or_default(),
            form: programs.form,
            implements: programs.implements,
            flags: OpsFlags::from_bits_retain(number("flags") & !noop),
            timeout_ms: number("timeout_ms") as u32,
            dispatch_max_batch: number("dispatch_max_batch") as u32,
            exit_dump_len: number("exit_dump_len") as u32,
            sub_cgroup: None,
            tracepoints: others.tracepoints(),
        };
        let shard_size = number("cid_shard_size") as u32;
        let counters = counters(&image, &binding);
        let bases = binding.maps.iter().map(|map| map.value).collect();
        let arena = Arena::of(&image, &binding);
        let free_pages = arena.as_ref().map(|arena| arena.free_pages(&memory));
        let initial = Inner::new(memory, maps, objects, free_pages.unwrap_or_default());
        Ok(Self {
            image,
            code,
            ops: data,
            programs,
            others,
            kfuncs,
            layouts,
            shapes: Shapes::new(abi),
            events: EventPlaces::new(abi),
            arena,
            left_out,
            version: abi.version(),
            shard_size,
            counters,
            bases,
            initial,
            interleave: Interleave::Off,
            twins: AtomicU64::new(0),
            budget: BUDGET,
        })
    }

    /// Ends it when one call of an operation has run so many instructions, and not 100 million. A
    /// kernel's verifier lets no program run without an end; this ends one that it would not have let.
    pub fn budgeted(mut self, instructions: u64) -> Self {
        self.budget = instructions;
        self
    }

    /// What of the object is not here, since nothing uses it: sentences.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// As a sub-scheduler, of the cgroup with this path.
    pub fn in_cgroup(mut self, path: impl Into<String>) -> Self {
        self.ops.sub_cgroup = Some(path.into());
        self
    }

    /// Lets other CPUs go on in the middle of its callbacks.
    pub fn interleaved(mut self, interleave: Interleave) -> Self {
        self.interleave = interleave;
        self.initial.races = (interleave == Interleave::Instructions).then(Box::default);
        self
    }

    /// Where other CPUs may go on in the middle of its callbacks.
    pub fn interleave(&self) -> Interleave {
        self.interleave
    }

    /// What this kernel lacks for the instruction in whose place a call is.
    fn lacks(&self, thread: &Thread, callee: Callee) -> Option<&str> {
        let Callee::Helper(number) = callee else { return None };
        if number < Poison::CORE as u32 {
            return None;
        }
        let at = thread.at()?;
        let poison = &self.image.poison;
        let found = poison.binary_search_by_key(&at, |poison| poison.insn).ok()?;
        Some(&poison[found].text)
    }

    fn name_of(&self, callee: Callee) -> String {
        match callee {
            Callee::Kfunc(index) => format!("{}()", self.image.kfuncs[index].name),
            Callee::Helper(number) => bpf_func::name(number),
        }
    }
}

/// All numbers that the scheduler counts in: the plain variables of `.bss`.
fn counters(image: &Image, binding: &Binding) -> Vec<(String, u64, usize)> {
    let plain = image.globals.iter().filter(|global| {
        let ty = image.btf.resolve(global.ty).unwrap_or_default();
        global.section == ".bss"
            && !global.name.contains('.')
            && matches!(image.btf.ty(ty), Type::Int(_))
            && global.size <= 8
    });
    plain
        .filter_map(|global| {
            let addr = binding.maps.get(global.map)?.value + global.offset;
            Some((global.name.clone(), addr, global.size as usize))
        })
        .collect()
}

/// What each kernel function is, and whether all are there that are called, helpers too. What no
/// program reaches may call what it likes, as in a kernel.
fn kfuncs(image: &Image, missing: &mut Vec<String>) -> Vec<Kfunc> {
    const MOST: usize = 100;
    let calls = image.insns.iter().enumerate().filter(|(_, insn)| insn.code == Insn::CALL);
    let unknown = calls.filter_map(|(insn, call)| {
        let poisoned = image.poison.binary_search_by_key(&insn, |poison| poison.insn).is_ok();
        let number = call.imm as u32;
        let what = match call.src {
            pseudo::HELPER if !poisoned && !bpf_func::is_known(number) => bpf_func::name(number),
            pseudo::KFUNC => match image.kfuncs.get(number as usize) {
                Some(kfunc) if kfunc::find(&kfunc.name).is_none() => format!("{}()", kfunc.name),
                _ => return None,
            },
            _ => return None,
        };
        Some((insn, what))
    });
    let unknown: Vec<_> = unknown.collect();
    if !unknown.is_empty() {
        let reachable = reachable::reachable(image);
        let mut named = std::collections::BTreeSet::new();
        for (insn, what) in unknown.into_iter().filter(|&(insn, _)| reachable[insn]) {
            let is_new = named.insert(what.clone());
            if is_new && named.len() <= MOST {
                missing.push(format!("{what}{}", caller(image, insn)));
            }
        }
        if named.len() > MOST {
            missing.push(format!("and {} more functions", named.len() - MOST));
        }
    }
    let absent: Kfunc = |_| Err("the engine does not have it".into());
    image.kfuncs.iter().map(|kfunc| kfunc::find(&kfunc.name).unwrap_or(absent)).collect()
}

/// Which function calls, for a message.
fn caller(image: &Image, insn: usize) -> String {
    let after = image.functions.partition_point(|function| function.start <= insn);
    let function = after.checked_sub(1).map(|at| &image.functions[at]);
    let function = function.filter(|function| insn - function.start < function.len);
    function.map_or_else(String::new, |function| format!(" (called by {})", function.name))
}
