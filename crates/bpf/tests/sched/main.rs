//! Compiled schedulers on the engine. Their images are put together here, instruction by
//! instruction, and so are the kernels that they are for.

mod bpf_func;
mod build;
mod callbacks;
mod interleave;
mod lacking;
mod maps;
mod others;

use std::sync::Arc;

use build::{Asm, GLOBAL, image, kernel};
use scxlab_bpf::image::MapType;
use scxlab_bpf::insn::pseudo;
use scxlab_bpf::sched::{BpfScheduler, LoadError};
use scxlab_engine::program::{Instr, Pc, Program, Span, Start};
use scxlab_engine::{Config, Engine, ExitInfo, ExitKind, Nanos, SchedId, Scheduler as _};

/// So many tasks that run for 1 ms and sleep for 1 ms, over and over.
fn blinkers(count: usize) -> Program {
    let ms = Nanos::from_millis(1);
    let start = Start::new(Pc(0), 0);
    Program {
        code: vec![
            Instr::Loop { count: None, end: Pc(3) },
            Instr::Run(Span::exactly(ms)),
            Instr::Sleep(Span::exactly(ms)),
            Instr::LoopEnd { body: Pc(1) },
            Instr::Exit,
        ],
        names: vec!["blinker".into()],
        start: vec![start; count],
        ..Program::default()
    }
}

/// A scheduler, and the engine that it is attached to.
#[derive(Clone)]
struct Ran {
    sched: Arc<BpfScheduler>,
    engine: Engine,
    id: SchedId,
}

fn attached(sched: BpfScheduler, seed: u64) -> Ran {
    attached_to(sched, seed, blinkers(4))
}

fn attached_to(sched: BpfScheduler, seed: u64, program: Program) -> Ran {
    let mut config = Config::new(2, Arc::new(program));
    config.seed = seed;
    let mut engine = Engine::new(config).expect("a machine");
    let sched = Arc::new(sched);
    let id = engine.attach(Arc::<BpfScheduler>::clone(&sched)).expect("attached");
    Ran { sched, engine, id }
}

fn run(sched: BpfScheduler) -> Ran {
    let mut ran = attached(sched, 1);
    ran.engine.run_until(Nanos::from_millis(200));
    ran
}

impl Ran {
    fn counters(&self) -> Vec<(String, u64)> {
        self.sched.counters(self.engine.scheduler_state(self.id))
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters().iter().find(|(known, _)| known == name).expect("it is there").1
    }

    fn is_well(&self) {
        assert!(self.engine.is_attached(self.id), "{:?}", self.engine.exit_info(self.id));
        assert_eq!(self.engine.lost_tasks(), []);
    }

    /// All that is to be the same: what happened, and what the scheduler counted.
    fn all_of_it(&self) -> String {
        let Self { engine, id, .. } = self;
        format!("{:?} {:?} {:?}", engine.stats(), self.counters(), engine.exit_info(*id))
    }
}

fn loaded(programs: &[(&str, Asm)]) -> BpfScheduler {
    BpfScheduler::new(image(programs), &kernel()).expect("it has all that it needs")
}

/// Counts, and inserts into the global queue.
fn enqueue() -> Asm {
    Asm::new()
        .load(6, 1, 0)
        .load(7, 1, 8)
        .bss(1, 0)
        .mov(2, 1)
        .atomic_add(1, 0, 2)
        .copy(1, 6)
        .imm64(2, GLOBAL)
        .mov(3, 5_000_000)
        .copy(4, 7)
        .kfunc(0)
        .mov(0, 0)
        .exit()
}

#[test]
fn a_compiled_scheduler_schedules() {
    let ran = run(loaded(&[("enqueue", enqueue())]));
    ran.is_well();
    assert!(ran.counter("first") > 100, "{:?}", ran.counters());
    assert!(ran.engine.stats().switches > 100);
}

#[test]
fn tasks_have_their_members() {
    // second = the highest pid that ran; p->scx.slice = 1 ms.
    let running = Asm::new()
        .load(6, 1, 0)
        .load_member(2, 6, "pid")
        .bss(1, 8)
        .load(3, 1, 0)
        .jump_if_greater(3, 2, 1)
        .store(1, 0, 2)
        .mov(2, 1_000_000)
        .store_member(6, "scx.slice", 2)
        .mov(0, 0)
        .exit();
    let ran = run(loaded(&[("enqueue", enqueue()), ("running", running)]));
    ran.is_well();
    let highest = ran.engine.live_tasks().map(|p| p.pid).max().expect("there are tasks");
    assert_eq!(ran.counter("second"), highest as u64);
}

fn ended(programs: &[(&str, Asm)]) -> ExitInfo {
    let Ran { engine, id, .. } = run(loaded(programs));
    let info = engine.exit_info(id).expect("it has ended").clone();
    assert_eq!(engine.lost_tasks(), [], "the tasks go on without it");
    assert_eq!(info.kind, ExitKind::Error);
    info
}

#[test]
fn a_wild_pointer_ends_the_scheduler_and_says_where() {
    let wild = Asm::new().mov(2, 0x12_3400).load(0, 2, 0x10_00).exit();
    let msg = ended(&[("enqueue", enqueue()), ("running", wild)]).msg;
    assert!(msg.starts_with("ops.running: ") && msg.contains("instruction 1"), "{msg}");
}

#[test]
fn a_member_that_is_not_the_scheduler_s_is_not_written() {
    let writes = Asm::new().load(6, 1, 0).mov(2, 1).store_member(6, "pid", 2).exit();
    let msg = ended(&[("enqueue", enqueue()), ("running", writes)]).msg;
    assert!(msg.contains("the task_struct of "), "{msg}");
    assert!(msg.contains("a scheduler may not write there"), "{msg}");
}

#[test]
fn what_is_no_task_is_none() {
    let wrong = Asm::new().copy(1, 10).imm64(2, GLOBAL).mov(3, 1).mov(4, 0).kfunc(0).exit();
    let msg = ended(&[("enqueue", wrong)]).msg;
    assert!(msg.contains("scx_bpf_dsq_insert(): its argument 1 is no task"), "{msg}");
}

#[test]
fn a_program_without_an_end_is_ended() {
    let msg = ended(&[("enqueue", enqueue()), ("tick", Asm::new().forever())]).msg;
    assert!(msg.contains("does not end"), "{msg}");
}

#[test]
fn what_the_engine_lacks_is_named_at_once() {
    let mut image = image(&[("enqueue", enqueue()), ("cpu_frobnicate", enqueue())]);
    image.kfuncs[0].name = "scx_bpf_frobnicate".into();
    image.maps[0].map_type = MapType::PROG_ARRAY;
    let Err(LoadError::Missing(missing)) = BpfScheduler::new(image, &kernel()) else {
        panic!("it was loaded");
    };
    let named = [
        "operation cpu_frobnicate",
        "map .bss: schedulers cannot call programs",
        "scx_bpf_frobnicate() (called by enqueue)",
    ];
    assert_eq!(missing.len(), named.len(), "{missing:?}");
    for (missing, name) in missing.iter().zip(named) {
        assert!(missing.starts_with(name), "{missing}");
    }
}

#[test]
fn one_scheduler_and_no_other() {
    let mut none = image(&[("enqueue", enqueue())]);
    let two = vec![none.struct_ops[0].clone(); 2];
    none.struct_ops.clear();
    let error = BpfScheduler::new(none.clone(), &kernel()).expect_err("none");
    assert_eq!(error, LoadError::NoScheduler);
    let names = two.iter().map(|ops| ops.name.clone()).collect();
    none.struct_ops = two;
    let error = BpfScheduler::new(none, &kernel()).expect_err("two");
    assert_eq!(error, LoadError::ManySchedulers(names));
}

#[test]
fn the_same_seed_is_the_same_run_and_a_clone_goes_on_as_the_original() {
    let sched = || loaded(&[("enqueue", enqueue())]);
    let mut ran = attached(sched(), 7);
    ran.engine.run_until(Nanos::from_millis(90));
    let mut clone = ran.clone();
    ran.engine.run_until(Nanos::from_millis(300));
    clone.engine.run_until(Nanos::from_millis(300));
    assert_eq!(ran.all_of_it(), clone.all_of_it());
    let others: Vec<_> = (0..10)
        .map(|_| {
            let sched = sched();
            std::thread::spawn(move || {
                let mut ran = attached(sched, 7);
                ran.engine.run_until(Nanos::from_millis(300));
                ran.all_of_it()
            })
        })
        .collect();
    for other in others {
        assert_eq!(other.join().expect("it ends"), ran.all_of_it());
    }
}

/// A map that nobody has room for is named like any other, and what is missing comes before what
/// cannot be decoded without it.
#[test]
fn what_a_kernel_refuses_comes_first() {
    let cast = Asm::new().cast_arena(1).exit();
    let mut image = image(&[("enqueue", enqueue()), ("running", cast)]);
    image.maps.push(image.maps[0].clone());
    let map = &mut image.maps[1];
    (map.name, map.value_size, map.max_entries) = ("huge".into(), u32::MAX, u32::MAX);
    let error = BpfScheduler::new(image, &kernel()).expect_err("it was loaded");
    let why = "map huge: its values are too large (E2BIG)";
    assert_eq!(error, LoadError::Refused(vec![why.into()]));
    assert_eq!(error.to_string(), format!("no kernel loads it: {why}"));
}

/// Operations call what is for GPL programs only.
#[test]
fn another_license_is_refused() {
    for (license, said) in [("", "no section `license`"), ("MIT", "its license is `MIT`")] {
        let mut image = image(&[("enqueue", enqueue())]);
        image.license = license.into();
        let error = BpfScheduler::new(image, &kernel()).expect_err("it was loaded").to_string();
        let kernel_says = "struct ops programs must have a GPL compatible license";
        assert!(error.contains(kernel_says) && error.contains(said), "{error}");
    }
    let mut image = image(&[("enqueue", enqueue())]);
    image.license = "Dual BSD/GPL".into();
    assert!(BpfScheduler::new(image, &kernel()).is_ok());
}

#[test]
fn what_is_missing_comes_next() {
    let cast = Asm::new().imm64(1, 0).cast_arena(1).exit();
    let mut image = image(&[("enqueue", enqueue()), ("running", cast)]);
    let running = image.functions.iter().find(|function| function.name == "running");
    let uses = running.expect("it is there").start;
    (image.insns[uses].src, image.insns[uses].imm) = (pseudo::MAP, image.maps.len() as i32);
    image.maps.push(image.maps[0].clone());
    let map = &mut image.maps[1];
    (map.name, map.map_type) = ("sockets".into(), MapType(15));
    let error = BpfScheduler::new(image, &kernel()).expect_err("it was loaded");
    let why = "map sockets: the engine has no maps of type BPF_MAP_TYPE_SOCKMAP";
    assert_eq!(error, LoadError::Missing(vec![why.into()]));
}
