//! The debug dump: `scx_dump_state()`, in the kernel's format.
//!
//! There is no kernel stack here, so the dump has no backtraces.

use std::fmt::Write as _;

use super::sched::SchedIdx;
use crate::CpuId;
use crate::config::Sabotage;
use crate::engine::Engine;
use crate::flags::{SCX_EXIT_DUMP_DFL_LEN, ent, opss};
use crate::kfunc::Op;
use crate::ops::{DumpCtx, OpSet};
use crate::task::{NIL, SchedClass, TaskIdx};

/// Output of `scx_bpf_dump()` while a dump operation runs: `struct scx_dump_data`.
#[derive(Clone, Debug)]
pub(crate) struct DumpBuf {
    prefix: &'static str,
    line: String,
    first: bool,
    out: String,
}

impl DumpBuf {
    fn new(prefix: &'static str) -> Self {
        Self { prefix, line: String::new(), first: true, out: String::new() }
    }

    /// `scx_bpf_dump()`: lines may come in pieces.
    pub fn push(&mut self, text: &str) {
        self.line.push_str(text);
        if self.line.ends_with('\n') {
            self.flush();
        }
    }

    /// `ops_dump_flush()`.
    fn flush(&mut self) {
        if self.line.is_empty() {
            return;
        }
        if std::mem::take(&mut self.first) {
            self.out.push('\n');
        }
        for line in self.line.lines() {
            let _ = writeln!(self.out, "{}{line}", self.prefix);
        }
        self.line.clear();
    }
}

impl Engine {
    /// `scx_dump_state()` for an error: all tasks.
    pub(crate) fn scx_dump_state(&mut self, sched: SchedIdx) -> String {
        let info = &self.sch(sched).exit_info;
        let dctx = DumpCtx {
            kind: info.kind as u32,
            exit_code: info.exit_code,
            reason: info.reason(),
            at_ns: self.now.0,
        };
        let (exit_cpu, msg) = (info.exit_cpu, info.msg.clone());
        let curr = self.rq(self.this_cpu).curr;
        let mut s = String::new();
        let sch = self.sch(sched);
        if sch.level() == 0 {
            let _ = writeln!(s, "{}: root", sch.ops.name);
        } else {
            let (level, cgroup) = (sch.level(), sch.cgroup);
            let id = self.cgroups.id(cgroup);
            let path = self.cgroups.path(cgroup);
            let _ = writeln!(s, "{}: sub{level}-{id} {path}", sch.ops.name);
        }
        let (comm, pid) = (self.p(curr).comm(), self.p(curr).pid);
        let on = if exit_cpu >= 0 { format!(" on CPU {exit_cpu}") } else { String::new() };
        let _ = writeln!(s, "{comm}[{pid}] triggered exit kind {}{on}:", dctx.kind);
        let _ = writeln!(s, "  {} ({msg})\n\nBacktrace:", dctx.reason);
        if self.sch(sched).has(OpSet::DUMP) && !self.sabotaged(Sabotage::C16NoDump) {
            s += &self.call_dump(sched, "", |ops, cx| ops.dump(cx, &dctx));
        }
        s += "\nCPU states\n----------\n";
        if exit_cpu >= 0 {
            self.dump_cpu(sched, &mut s, &dctx, CpuId(exit_cpu as u32));
        }
        for cpu in (0..self.nr_cpus() as u32).filter(|&cpu| cpu as i32 != exit_cpu) {
            self.dump_cpu(sched, &mut s, &dctx, CpuId(cpu));
        }
        s += "\nEvent counters\n--------------\n";
        for (name, value) in self.sch(sched).events.iter() {
            let _ = writeln!(s, "{name:>40}: {value:>16}");
        }
        let len = match self.sch(sched).ops.exit_dump_len {
            0 => SCX_EXIT_DUMP_DFL_LEN,
            len => len,
        };
        truncate(&mut s, len as usize);
        s
    }

    fn call_dump(
        &mut self,
        sched: SchedIdx,
        prefix: &'static str,
        f: impl FnOnce(&dyn crate::ops::Scheduler, &mut crate::kfunc::Cx<'_>),
    ) -> String {
        self.dump_buf = Some(DumpBuf::new(prefix));
        self.call(sched, Op::Dump, f);
        match self.dump_buf.take() {
            Some(mut buf) => {
                buf.flush();
                buf.out
            }
            None => String::new(),
        }
    }

    /// `scx_dump_cpu()`.
    fn dump_cpu(&mut self, sched: SchedIdx, s: &mut String, dctx: &DumpCtx, cpu: CpuId) {
        let rq = self.rq(cpu);
        let curr = rq.curr;
        let idle = rq.scx.runnable_list.is_empty() && curr == rq.idle;
        let has_op = self.sch(sched).has(OpSet::DUMP_CPU);
        if idle && !has_op {
            return;
        }
        let nr = self.nr_cpus();
        let mut ns = String::new();
        let _ = writeln!(
            ns,
            "\nCPU {:<4}: nr_run={} flags={:#x} cpu_rel={} ksync={}",
            cpu.0,
            rq.scx.nr_running,
            rq.scx.flags,
            u8::from(rq.scx.cpu_released),
            rq.scx.kick_sync
        );
        let p = self.p(curr);
        let class = p.sched_class().symbol();
        let _ = writeln!(ns, "          curr={}[{}] class={class}", p.comm(), p.pid);
        for (label, mask) in [
            ("cpus_to_kick   ", rq.scx.cpus_to_kick),
            ("idle_to_kick   ", rq.scx.cpus_to_kick_if_idle),
            ("cpus_to_preempt", rq.scx.cpus_to_preempt),
            ("cpus_to_wait   ", rq.scx.cpus_to_wait),
            ("cpus_to_sync   ", rq.scx.cpus_to_sync),
        ] {
            if !mask.is_empty() {
                let _ = writeln!(ns, "  {label}: {}", mask.to_bitmap_string(nr));
            }
        }
        let mut own = String::new();
        if has_op {
            let (is_cid, cid) = (self.sch(sched).is_cid(), self.topology.cid(cpu));
            own = self.call_dump(sched, "  ", |ops, cx| {
                if is_cid {
                    ops.dump_cid(cx, dctx, cid, idle);
                } else {
                    ops.dump_cpu(cx, dctx, cpu, idle);
                }
            });
        }
        if idle && own.is_empty() {
            return;
        }
        s.push_str(&ns);
        s.push_str(&own);
        if self.p(curr).sched_class() == SchedClass::Ext {
            self.dump_task(sched, s, dctx, curr, '*');
        }
        let list = self.rq(cpu).scx.runnable_list.clone();
        let tasks: Vec<_> = list.iter(&self.tasks).collect();
        for p in tasks {
            self.dump_task(sched, s, dctx, p, ' ');
        }
    }

    /// `scx_dump_task()`.
    fn dump_task(
        &mut self,
        sched: SchedIdx,
        s: &mut String,
        dctx: &DumpCtx,
        p: TaskIdx,
        marker: char,
    ) {
        let Some(task_sched) = self.task_sched(p) else { return };
        let task = self.p(p);
        let scx = &task.scx;
        let own = if task_sched == sched { "*" } else { "" };
        let level = self.sch(task_sched).level();
        let id = if level == 0 {
            "root".to_owned()
        } else {
            format!("sub{level}-{}", self.cgroups.id(self.sch(task_sched).cgroup))
        };
        let dsq = if scx.dsq == NIL {
            "(n/a)".to_owned()
        } else {
            format!("{:#x}", self.dsqs[scx.dsq as usize].id.0)
        };
        let jiffy = self.jiffy().0;
        // jiffies_delta_msecs(): "+0ms" when it became runnable in this jiffy.
        let ago = (dctx.at_ns / jiffy).saturating_sub(scx.runnable_at) * jiffy / 1_000_000;
        let ms = -(ago as i64);
        let (comm, pid, state) = (task.comm(), task.pid, task.state_char());
        let _ = writeln!(s, "\n {marker}{state} {comm}[{pid}] {own}{id} {ms:+}ms");
        let _ = writeln!(
            s,
            "      scx_state/flags={}/{:#x} dsq_flags={:#x} ops_state/qseq={}/{}",
            task.task_state() as u32,
            scx.flags & !ent::STATE_MASK,
            scx.dsq_flags,
            scx.ops_state & opss::STATE_MASK,
            scx.ops_state >> opss::QSEQ_SHIFT
        );
        let (sticky, holding) = (scx.sticky_cpu, scx.holding_cpu);
        let _ = writeln!(s, "      sticky/holding_cpu={sticky}/{holding} dsq_id={dsq}");
        let _ = writeln!(
            s,
            "      dsq_vtime={} slice={} weight={}",
            scx.dsq_vtime,
            self.slice_after_ticks(p),
            scx.weight
        );
        let cpus = task.cpus_ptr().to_bitmap_string(self.nr_cpus());
        let _ = writeln!(s, "      cpus={cpus} no_mig={}", task.migration_disabled);
        if self.sch(sched).has(OpSet::DUMP_TASK) {
            let out = self.call_dump(sched, "    ", |ops, cx| {
                let p = cx.task(p);
                ops.dump_task(cx, dctx, p);
            });
            s.push_str(&out);
        }
    }
}

/// Cuts a dump to the room that the scheduler gave it, marked as the kernel marks it.
fn truncate(s: &mut String, len: usize) {
    const MARKER: &str = "\n\n~~~~ TRUNCATED ~~~~\n";
    if s.len() < len {
        return;
    }
    let mut end = len.saturating_sub(MARKER.len() + 1);
    while !s.is_char_boundary(end) {
        end -= 1;
    }
    s.truncate(end);
    if len > MARKER.len() {
        s.push_str(MARKER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_that_does_not_fit_is_cut_and_marked() {
        let mut s = "x".repeat(200);
        truncate(&mut s, 100);
        assert_eq!(s.len(), 99);
        assert!(s.ends_with("\n\n~~~~ TRUNCATED ~~~~\n"));
        let mut s = "short".to_owned();
        truncate(&mut s, 100);
        assert_eq!(s, "short");
    }

    #[test]
    fn lines_may_come_in_pieces() {
        let mut buf = DumpBuf::new("  ");
        buf.push("a");
        buf.push(" b\n");
        buf.push("c");
        buf.flush();
        assert_eq!(buf.out, "\n  a b\n  c\n");
    }
}
