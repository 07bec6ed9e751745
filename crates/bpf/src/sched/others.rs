//! Programs beside the operations: those that a scheduler's user space has the kernel run, and those
//! at tracepoints.

use std::collections::{BTreeMap, BTreeSet};

use scxlab_engine::{Cx, Task, Tracepoint, TracepointSet};

use super::BpfScheduler;
use super::call::{Arg, Failed};
use super::kfunc::{self, Kind};
use super::ops;
use crate::insn::pseudo;
use crate::machine::Region;
use crate::{Image, Insn};

/// The most bytes of a context: `U16_MAX`, of `bpf_prog_test_run_syscall()`.
pub const MAX_CONTEXT: usize = 65_535;

/// Refusals after which no more programs are looked at.
const MOST_REFUSED: usize = 100;

/// All of a scheduler's.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    /// Name and function.
    syscalls: Vec<(String, usize)>,
    /// The function at each, in the object's order.
    traces: Vec<(TracepointSet, usize)>,
}

impl Others {
    /// Those of an image. What nobody passes in the engine is named, and so is what no kernel loads.
    pub fn new(image: &Image, missing: &mut Vec<String>, refused: &mut Vec<String>) -> Self {
        let mut others = Self::default();
        let calls = Calls::of(image);
        let [syscall, tracing] = [Kind::Syscall, Kind::Tracing]
            .map(|kind| calls.leading_to(|kfunc| !kfunc::is_allowed(kind, kfunc)));
        for program in &image.programs {
            let name = &image.functions[program.function].name;
            let section = program.section.as_str();
            let at = match section.split_once('/') {
                // Of a raw one the arguments are the same, and pointers no types.
                Some(("tp_btf" | "raw_tp" | "raw_tracepoint", name)) => TracepointSet::named(name),
                Some(("fentry", name)) => TracepointSet::function(name),
                _ => None,
            };
            let kind = match (section, at) {
                ("struct_ops" | "struct_ops.s", _) => continue,
                (section, _) if section.starts_with("struct_ops") => continue,
                ("syscall", _) => {
                    others.syscalls.push((name.clone(), program.function));
                    Kind::Syscall
                }
                // Run by the operations.
                (ops::REGISTERED, _) => Kind::Tracing,
                (_, Some(at)) => {
                    others.traces.push((at, program.function));
                    Kind::Tracing
                }
                _ => {
                    missing.push(format!("programs of the kind {section} ({name})"));
                    continue;
                }
            };
            let leading = if kind == Kind::Syscall { &syscall } else { &tracing };
            if leading[program.function] && refused.len() < MOST_REFUSED {
                calls.refuse(kind, program.function, refused);
            }
        }
        others
    }

    /// Where any of them are.
    pub fn tracepoints(&self) -> TracepointSet {
        self.traces.iter().fold(TracepointSet::empty(), |all, (at, _)| all | *at)
    }
}

/// Who calls whom, as it stands in the code, whether it is ever reached or not.
struct Calls<'a> {
    image: &'a Image,
    /// By function: the functions that it calls or has the address of.
    functions: Vec<BTreeSet<usize>>,
    /// By function: the kernel functions.
    kfuncs: Vec<BTreeSet<&'a str>>,
}

impl<'a> Calls<'a> {
    fn of(image: &'a Image) -> Self {
        let by_start: BTreeMap<usize, usize> =
            image.functions.iter().enumerate().map(|(i, function)| (function.start, i)).collect();
        let all = image.functions.len();
        let (mut functions, mut kfuncs) = (vec![BTreeSet::new(); all], vec![BTreeSet::new(); all]);
        for (caller, body) in image.functions.iter().enumerate() {
            for at in body.start..body.start + body.len {
                let Some(insn) = image.insns.get(at) else { break };
                match (insn.code, insn.src) {
                    (Insn::CALL, pseudo::KFUNC) => {
                        let kfunc = image.kfuncs.get(insn.imm as u32 as usize);
                        kfuncs[caller].extend(kfunc.map(|kfunc| kfunc.name.as_str()));
                    }
                    (Insn::CALL, pseudo::CALL) | (Insn::LOAD_WIDE, pseudo::FUNC) => {
                        let to = (at + 1).checked_add_signed(insn.imm as isize);
                        functions[caller].extend(to.and_then(|to| by_start.get(&to)));
                    }
                    _ => {}
                }
            }
        }
        Self { image, functions, kfuncs }
    }

    /// The functions from which one can come to one that calls such a kernel function.
    fn leading_to(&self, is_it: impl Fn(&str) -> bool) -> Vec<bool> {
        let mut callers = vec![Vec::new(); self.functions.len()];
        for (caller, called) in self.functions.iter().enumerate() {
            called.iter().for_each(|&called| callers[called].push(caller));
        }
        let mut leading: Vec<bool> =
            self.kfuncs.iter().map(|kfuncs| kfuncs.iter().any(|&kfunc| is_it(kfunc))).collect();
        let mut open: Vec<usize> = (0..leading.len()).filter(|&i| leading[i]).collect();
        while let Some(function) = open.pop() {
            for &caller in &callers[function] {
                if !std::mem::replace(&mut leading[caller], true) {
                    open.push(caller);
                }
            }
        }
        leading
    }

    /// The kernel functions that a program calls, or one of the functions that it reaches: each
    /// once, in the order of their names.
    fn kfuncs(&self, program: usize) -> BTreeSet<&'a str> {
        let mut called = BTreeSet::new();
        let mut seen = BTreeSet::from([program]);
        let mut open = vec![program];
        while let Some(function) = open.pop() {
            called.extend(&self.kfuncs[function]);
            open.extend(self.functions[function].iter().filter(|&&to| seen.insert(to)));
        }
        called
    }

    /// Names what a program of this kind calls and may not, if it is one of those that do.
    fn refuse(&self, kind: Kind, program: usize, refused: &mut Vec<String>) {
        let name = &self.image.functions[program].name;
        for kfunc in
            self.kfuncs(program).into_iter().filter(|kfunc| !kfunc::is_allowed(kind, kfunc))
        {
            refused.push(format!("{name} calls {kfunc}(), which {} may not", kind.name()));
        }
    }
}

/// What became of a program that user space had run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgRun {
    /// What it returned.
    pub retval: u32,
    /// The context as the program left it.
    pub context: Vec<u8>,
}

/// Why a program was not run, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgRunError {
    /// There is no such program of the kind syscall.
    #[error("there is no program of the kind syscall with this name")]
    NoProgram,
    /// The context is longer than a kernel takes: [`MAX_CONTEXT`].
    #[error("its context has {0} bytes; a kernel takes up to {MAX_CONTEXT}")]
    TooLong(usize),
    /// The program did what it must not.
    #[error("{0}")]
    Fault(String),
}

impl From<Failed> for ProgRunError {
    fn from(failed: Failed) -> Self {
        Self::Fault(match failed {
            Failed::Fault(fault) => fault.to_string(),
            Failed::Other(why) => why,
        })
    }
}

impl BpfScheduler {
    /// The names of its programs of the kind syscall, in the object's order.
    pub fn syscall_names(&self) -> impl Iterator<Item = &str> {
        self.others.syscalls.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the object has a program of this name, of whatever kind.
    pub fn has_program(&self, name: &str) -> bool {
        let of = |program: &crate::image::Program| &self.image.functions[program.function].name;
        self.image.programs.iter().any(|program| of(program) == name)
    }

    /// Runs a program of the kind syscall with a context, empty for none (`BPF_PROG_TEST_RUN`,
    /// `bpf_prog_test_run_syscall()`): within [`Engine::prog_run`](scxlab_engine::Engine::prog_run)
    /// or before the scheduler is attached.
    ///
    /// # Errors
    /// It is not there, the context is too long, or the program does what it must not, which also
    /// ends the scheduler.
    pub fn prog_run(
        &self,
        cx: &mut Cx<'_>,
        name: &str,
        context: &[u8],
    ) -> Result<ProgRun, ProgRunError> {
        let known = self.others.syscalls.iter().find(|(known, _)| known == name);
        let &(_, function) = known.ok_or(ProgRunError::NoProgram)?;
        if context.len() > MAX_CONTEXT {
            return Err(ProgRunError::TooLong(context.len()));
        }
        let mut left = Vec::new();
        let result = self.enter(cx, None, |call, thread| {
            call.sleepable = self.may_sleep(function);
            let memory = &mut call.inner()?.memory;
            let region = memory.alloc(Region::new("the context"), context.to_vec())?;
            let args = [region.base(), 0, 0, 0, 0];
            let result = match thread.start(memory, &self.code, function, args) {
                Ok(()) => call.go_on(thread),
                Err(err) => Err(Failed::Other(err.to_string())),
            };
            left = vec![0; context.len()];
            let memory = &mut call.inner()?.memory;
            let read = memory.read(&mut crate::machine::NoKernel, region.base(), &mut left);
            debug_assert!(read.is_ok(), "it has its own bytes");
            memory.free(region);
            result
        });
        match result {
            Ok(value) => Ok(ProgRun { retval: value as u32, context: left }),
            Err(failed) => {
                let err = ProgRunError::from(failed);
                ops::faulted(cx, format!("the program {name}: {err}"));
                Err(err)
            }
        }
    }

    /// A tracepoint is passed: runs the programs that are there.
    pub(super) fn passes(&self, cx: &mut Cx<'_>, at: &Tracepoint<Task<'_>>) {
        let here = self.others.traces.iter().filter(|(kind, _)| *kind == at.kind());
        for &(_, function) in here {
            // None of what it may call passes a tracepoint before it returns, so it is not run within
            // itself, which the kernel would not do (`bpf_trace_run*()`).
            if let Err(failed) = self.at_tracepoint(cx, function, at) {
                let name = &self.code.functions()[function].name;
                let why = ProgRunError::from(failed);
                ops::faulted(cx, format!("the program {name}: {why}"));
            }
        }
    }

    /// The arguments, as the kernel's tracepoint or function declares them.
    fn at_tracepoint<'r>(
        &self,
        cx: &mut Cx<'r>,
        function: usize,
        at: &Tracepoint<Task<'_>>,
    ) -> Result<u64, Failed> {
        let task = |p: &Task<'_>| Arg::Task(Some(cx.same(*p)));
        let flag = |flag: bool| Arg::Number(flag.into());
        let path;
        let args: &[Arg<'_, 'r>] = match at {
            Tracepoint::SchedSwitch { preempt, prev, next, prev_state } => {
                &[flag(*preempt), task(prev), task(next), Arg::Number((*prev_state).into())]
            }
            Tracepoint::SchedWaking { p }
            | Tracepoint::SchedWakeup { p }
            | Tracepoint::SchedWakeupNew { p } => &[task(p)],
            Tracepoint::SchedMigrateTask { p, dest_cpu } => {
                &[task(p), Arg::Number(dest_cpu.0.into())]
            }
            Tracepoint::SchedProcessFork { parent, child } => &[task(parent), task(child)],
            Tracepoint::SchedProcessExec { p, old_pid } => {
                &[task(p), Arg::Number(*old_pid as u64), Arg::Unknown("linux_binprm")]
            }
            Tracepoint::SchedProcessExit { p, group_dead } => &[task(p), flag(*group_dead)],
            Tracepoint::TaskRename { p, comm } => &[task(p), Arg::Text(comm)],
            Tracepoint::CgroupAttachTask { cgroup, p, threadgroup } => {
                path = cx.cgroup_path(*cgroup).unwrap_or_default().to_owned();
                &[Arg::Cgroup(*cgroup), Arg::Text(&path), task(p), flag(*threadgroup)]
            }
            Tracepoint::ScxTick { cpu } => &[Arg::Runqueue(*cpu)],
            Tracepoint::WakeUpNewTask { p } | Tracepoint::SchedExtDead { p } => &[task(p)],
        };
        self.run(cx, function, args)
    }
}
