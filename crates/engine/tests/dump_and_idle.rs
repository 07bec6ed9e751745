//! The debug dump's format, and the built-in choice of a CPU.

use std::sync::Arc;

use scxlab_engine::program::Instr;
use scxlab_engine::{
    Config, CpuId, DsqId, Engine, EnqFlags, OpSet, PickIdleFlags, Scheduler, State, WakeFlags,
};

mod support;
use support::{Lab, Prog, attached, ejected, go, lab_state, mask, quiet, run, run_us, sleep, st};

/// Stalls with a task in custody, one in a queue and one that runs.
fn stalled() -> String {
    let dsq = DsqId(0x2a);
    let lab = Lab::new()
        .on_init(move |cx| cx.create_dsq(dsq))
        .on_select_cpu(|_, _, prev, _| prev)
        .on_enqueue(move |cx, p, enq| match cx.get(p).comm() {
            "held" => {}
            "queued" => {
                cx.dsq_insert_vtime(p, dsq, 3_000_000, 77, enq);
            }
            _ => {
                cx.dsq_insert(p, DsqId::LOCAL, 5_000_000, enq);
            }
        })
        .timeout_ms(100);
    let mut prog = Prog::new();
    let held = prog.forever("held", vec![run(1)]);
    prog.start(held).nice = 19;
    let queued = prog.forever("queued", vec![run(1)]);
    prog.start_at(queued, 9).affinity = Some(mask(&[0]));
    let hog = prog.forever("hog", vec![run(1)]);
    prog.start(hog);
    let (mut engine, id) = attached(quiet(2, prog), lab);
    ejected(&mut engine, id, 1_000).dump
}

/// A line with each number replaced by `#`.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for c in line.chars() {
        let digit = c.is_ascii_digit();
        if !digit || !shape.ends_with('#') {
            shape.push(if digit { '#' } else { c });
        }
    }
    shape
}

#[test]
fn the_dump_has_the_kernels_lines() {
    let dump = stalled();
    let shapes: Vec<_> = dump.lines().map(shape).collect();
    assert_eq!(shapes[0], "lab: root");
    assert_eq!(shapes[1], "kworker/u#:#[#] triggered exit kind # on CPU #:");
    assert_eq!(shapes[2], "  runnable task stall (held[#] failed to run for #.#s)");
    assert_eq!(shapes[3..7], ["", "Backtrace:", "", "CPU states"]);
    assert_eq!(shapes[7..9], ["----------", ""]);
    assert_eq!(shapes[9], "CPU #   : nr_run=# flags=#x# cpu_rel=# ksync=#");
    assert_eq!(shapes[10], "          curr=kworker/u#:#[#] class=ext_sched_class");
    let task = |head: &str| {
        let at = shapes.iter().position(|line| line == head);
        let at = at.unwrap_or_else(|| panic!("no `{head}` in\n{dump}"));
        assert_eq!(shapes[at - 1], "");
        dump.lines().skip(at + 1).take(4).collect::<Vec<_>>()
    };
    task(" *R kworker/u#:#[#] *root -#ms");
    task("  R hog[#] *root +#ms");
    let held = task("  R held[#] *root -#ms");
    assert!(
        shape(held[0]).starts_with("      scx_state/flags=#/#x# dsq_flags=#x# ops_state/qseq=")
    );
    assert!(held[0].starts_with("      scx_state/flags=4/0x3 "), "{}", held[0]);
    assert!(held[0].ends_with(" ops_state/qseq=2/1"), "{}", held[0]);
    assert_eq!(held[1], "      sticky/holding_cpu=-1/-1 dsq_id=(n/a)");
    assert!(held[2].ends_with(" weight=1"), "{}", held[2]);
    assert_eq!(held[3], "      cpus=3 no_mig=0");
    let queued = task("  R queued[#] *root -#ms");
    assert!(queued[0].contains(" dsq_flags=0x1 ops_state/qseq=0/0"), "{}", queued[0]);
    assert_eq!(queued[1], "      sticky/holding_cpu=-1/-1 dsq_id=0x2a");
    assert_eq!(queued[2], "      dsq_vtime=77 slice=3000000 weight=100");
    assert_eq!(queued[3], "      cpus=1 no_mig=0");
}

#[test]
fn the_dump_ends_with_the_event_counters() {
    let dump = stalled();
    let (_, counters) = dump
        .split_once("\nEvent counters\n--------------\n")
        .unwrap_or_else(|| panic!("no counters in\n{dump}"));
    let lines: Vec<_> = counters.lines().collect();
    assert_eq!(lines.len(), 13);
    assert!(lines[0].starts_with("              SCX_EV_SELECT_CPU_FALLBACK:                "));
    assert!(lines.iter().all(|line| line.len() == 58), "{lines:?}");
}

/// Says something of its own in the dump.
#[derive(Debug)]
struct Talks;

impl Scheduler for Talks {
    fn ops(&self) -> scxlab_engine::Ops {
        scxlab_engine::Ops {
            name: "talks".into(),
            implements: OpSet::ENQUEUE | OpSet::DUMP | OpSet::DUMP_CPU | OpSet::DUMP_TASK,
            exit_dump_len: 0,
            ..Default::default()
        }
    }
    fn new_state(&self) -> Box<dyn State> {
        Box::new(0_u8)
    }
    fn enqueue(&self, cx: &mut scxlab_engine::Cx<'_>, p: scxlab_engine::Task<'_>, enq: EnqFlags) {
        if cx.get(p).comm() == "bad" {
            cx.error("on purpose");
        }
        cx.dsq_insert(p, DsqId::GLOBAL, 1_000_000, enq);
    }
    fn dump(&self, cx: &mut scxlab_engine::Cx<'_>, ctx: &scxlab_engine::DumpCtx) {
        cx.dump(format!("kind {}", ctx.kind));
        cx.dump(", one line\nand another");
        // Nothing is locked, and it may not sleep all the same.
        assert!(cx.create_dsq(DsqId(9)).is_err());
    }
    fn dump_cpu(
        &self,
        cx: &mut scxlab_engine::Cx<'_>,
        _: &scxlab_engine::DumpCtx,
        cpu: CpuId,
        idle: bool,
    ) {
        if cpu == CpuId(2) {
            cx.dump(format!("cpu {cpu} idle {idle}\n"));
        }
    }
    fn dump_task(
        &self,
        cx: &mut scxlab_engine::Cx<'_>,
        _: &scxlab_engine::DumpCtx,
        p: scxlab_engine::Task<'_>,
    ) {
        let tid = cx.get(p).scx.tid;
        cx.dump(format!("tid {tid}\n"));
    }
}

#[test]
fn a_schedulers_own_lines_are_indented_and_bring_idle_cpus_in() {
    let mut prog = Prog::new();
    let hog = prog.forever("hog", vec![run(10)]);
    prog.start(hog);
    let bad = prog.forever("bad", vec![run_us(100), Instr::Yield]);
    prog.start(bad).affinity = Some(mask(&[0]));
    let (mut engine, id) = attached(quiet(4, prog), Talks);
    let dump = ejected(&mut engine, id, 100).dump;
    assert!(
        dump.contains("\nBacktrace:\n\nkind 1025, one line\nand another\n\nCPU states\n"),
        "{dump}"
    );
    assert!(dump.contains("\n\n  cpu 2 idle true\n"), "{dump}");
    assert!(!dump.contains("\nCPU 3"), "an idle CPU that has nothing to say");
    assert!(dump.contains("\n\n    tid "), "{dump}");
}

/// What the built-in choice gives for a task whose last CPU is `prev`, with only `idle` idle.
fn choice(config: Config, prev: u32, idle: &[u32], sync: bool) -> Option<u32> {
    let idle = mask(idle);
    let lab = Lab::new()
        .on_select_cpu(move |cx, p, _, _| {
            if cx.get(p).comm() == "asks" && st(cx).n == 0 {
                // Claims all, then gives back those that are to be idle, by their own doing.
                for cpu in (0..cx.nr_cpu_ids()).map(CpuId).filter(|cpu| !idle.test(*cpu)) {
                    cx.test_and_clear_cpu_idle(cpu);
                }
                let wake = if sync { WakeFlags::TTWU | WakeFlags::SYNC } else { WakeFlags::TTWU };
                let got = cx.select_cpu_dfl(p, CpuId(prev), wake);
                st(cx).n = 1 + got.map_or(1_000, |cpu| u64::from(cpu.0));
            }
            CpuId(0)
        })
        .on_enqueue(|cx, p, enq| {
            cx.dsq_insert(p, DsqId::LOCAL, 1_000_000, enq);
        });
    let (mut engine, id) = attached(config, lab);
    go(&mut engine, 20);
    match lab_state(&engine, id).n {
        1_001 => None,
        0 => panic!("it did not ask"),
        cpu => Some(cpu as u32 - 1),
    }
}

fn machine(smt: usize, llcs: usize) -> Config {
    let mut prog = Prog::new();
    let asks = prog.routine("asks", vec![sleep(5)]);
    prog.start_at(asks, 5);
    let mut config = quiet(8, prog);
    (config.smt, config.llcs) = (smt, llcs);
    config
}

#[test]
fn the_last_cpu_comes_first_if_it_is_idle() {
    assert_eq!(choice(machine(1, 1), 3, &[1, 3, 5], false), Some(3));
    assert_eq!(choice(machine(1, 1), 2, &[5], false), Some(5));
    assert_eq!(choice(machine(1, 1), 2, &[], false), None);
}

#[test]
fn a_whole_idle_core_comes_before_an_idle_thread() {
    // Threads of a core are 4 apart. The last CPU is idle, but its sibling is not.
    assert_eq!(choice(machine(2, 1), 1, &[1, 2, 6], false), Some(2));
    assert_eq!(choice(machine(2, 1), 1, &[1, 2, 7], false), Some(1));
    // No whole core, and not the last CPU: its sibling.
    assert_eq!(choice(machine(2, 1), 1, &[0, 5, 2], false), Some(5));
}

#[test]
fn the_same_cache_comes_before_another() {
    // Caches of CPUs 0-3 and 4-7.
    assert_eq!(choice(machine(1, 2), 6, &[0, 1, 5], false), Some(5));
    assert_eq!(choice(machine(1, 2), 6, &[0], false), Some(0));
    // With threads: cores 0-1 and 2-3; a whole core elsewhere comes before half of one here.
    let core = choice(machine(2, 2), 2, &[0, 4, 3], false);
    assert!(matches!(core, Some(0 | 4)), "{core:?}");
}

#[test]
fn a_core_can_be_asked_for() {
    let lab = Lab::new()
        .on_select_cpu(|cx, p, prev, _| {
            if cx.get(p).comm() == "asks" && st(cx).n == 0 {
                let all = cx.get(p).cpus_ptr();
                for cpu in 0..4 {
                    cx.test_and_clear_cpu_idle(CpuId(cpu));
                }
                // Of each core one thread is idle: no core is.
                let core = cx.pick_idle_cpu(&all, PickIdleFlags::CORE);
                let thread = cx.pick_idle_cpu(&all, PickIdleFlags::empty());
                assert_eq!((core, thread.is_some()), (None, true));
                st(cx).n = 1;
            }
            prev
        })
        .on_enqueue(|cx, p, enq| {
            cx.dsq_insert(p, DsqId::LOCAL, 1_000_000, enq);
        });
    let (mut engine, id) = attached(machine(2, 1), lab);
    go(&mut engine, 20);
    assert_eq!(lab_state(&engine, id).n, 1);
}

#[test]
fn another_seed_is_another_run() {
    let records = |seed| {
        let mut prog = Prog::new();
        for name in ["a", "b", "c"] {
            let r = prog.forever(name, vec![run_us(700), sleep(1)]);
            prog.start(r);
        }
        let mut config = quiet(2, prog);
        config.seed = seed;
        let mut engine = Engine::new(config).expect("fine");
        engine.attach(Arc::new(Lab::fifo())).expect("attaches");
        go(&mut engine, 50);
        engine.take_records()
    };
    assert_eq!(records(1), records(1));
    assert_ne!(records(1), records(2));
}
