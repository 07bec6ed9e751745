//! The built-in workloads on machines of several sizes.

use std::collections::{HashSet, VecDeque};

use scxlab_engine::Program;
use scxlab_engine::program::{Instr, Pc, Spawn};
use scxlab_workload::{BUILTINS, Kind, MAX_INSTANCES, Workload};

const MACHINES: [usize; 4] = [1, 2, 4, 128];

fn compiled(name: &str, cpus: usize) -> Program {
    let workload = Workload::builtin(name, cpus).unwrap();
    let program = workload.compile(cpus).unwrap_or_else(|e| panic!("{name} on {cpus}: {e}"));
    assert_eq!(program.check(), Ok(()), "{name} on {cpus}");
    program
}

#[test]
fn each_compiles_for_each_machine() {
    for (name, line) in BUILTINS {
        assert!(!line.is_empty() && !line.contains('\n'));
        for cpus in MACHINES {
            let program = compiled(name, cpus);
            assert!(!program.start.is_empty());
        }
        // Sizes past what can be simulated are cut.
        assert_eq!(Workload::builtin(name, 0), Workload::builtin(name, 1));
        assert_eq!(Workload::builtin(name, usize::MAX), Workload::builtin(name, 1024));
        let largest = Workload::builtin(name, 1024).unwrap();
        assert!(largest.instances() <= u64::from(MAX_INSTANCES));
        assert!(largest.compile(1024).is_ok());
    }
}

#[test]
fn a_name_that_is_nearly_right_is_suggested() {
    let error = Workload::builtin("pingpon", 2).unwrap_err();
    assert_eq!(error.nearest.as_deref(), Some("pingpong"));
    assert_eq!(
        error.to_string(),
        "there is no built-in workload `pingpon`; did you mean `pingpong`?"
    );
    let error = Workload::builtin("x", 2).unwrap_err();
    assert_eq!(error.to_string(), "there is no built-in workload `x`; see the list of them");
}

#[test]
fn sizes_go_by_the_machine() {
    for cpus in MACHINES {
        let started = |name| {
            let workload = Workload::builtin(name, cpus).unwrap();
            (workload.instances() as usize, compiled(name, cpus).start.len())
        };
        assert_eq!(started("nonleader-exec"), (4 * cpus, 4 * cpus));
        // Two children of each worker run at a time.
        assert_eq!(started("exit-storm"), (2 * cpus, 2 * cpus));
        assert_eq!(started("fork-storm"), (2 * cpus, 2 * cpus));
        assert_eq!(started("hogs"), (2 * cpus, 2 * cpus));
        assert_eq!(started("pingpong"), (2 * cpus, 1));
    }
}

/// The instructions from `entry` up to the end of that code.
fn code_at(program: &Program, entry: Pc) -> &[Instr] {
    let code = &program.code[entry.0 as usize..];
    let end = code.iter().position(|i| matches!(i, Instr::Exit | Instr::ExitGroup)).unwrap();
    &code[..end]
}

/// What `code` starts, in its order.
fn all_spawned(code: &[Instr], kind: Spawn) -> impl Iterator<Item = Pc> + '_ {
    code.iter().filter_map(move |instr| match instr {
        Instr::Spawn { what, entry, .. } if *what == kind => Some(*entry),
        _ => None,
    })
}

fn spawned(program: &Program, code: &[Instr], kind: Spawn) -> Pc {
    all_spawned(code, kind)
        .next()
        .unwrap_or_else(|| panic!("{kind:?} in {code:?} of {}", program.code.len()))
}

#[test]
fn the_exec_is_one_of_a_thread_that_is_not_the_leader() {
    let program = compiled("nonleader-exec", 2);
    let worker = code_at(&program, program.start[0].entry);
    assert!(worker.contains(&Instr::Wait));
    let leader = code_at(&program, spawned(&program, worker, Spawn::Process));
    assert!(!leader.iter().any(|instr| matches!(instr, Instr::Exec { .. })));
    let thread = code_at(&program, spawned(&program, leader, Spawn::Thread));
    let Some(Instr::Exec { entry, .. }) = thread.last() else { panic!("{thread:?}") };
    // It sleeps once, so that it is enqueued under its new pid.
    let image = code_at(&program, *entry);
    let [Instr::Run(before), Instr::Sleep(_), Instr::Run(after)] = image else { panic!() };
    assert!(before.min.0 + after.min.0 >= 1_000_000 && before.max.0 + after.max.0 <= 6_000_000);
}

#[test]
fn nobody_waits_for_the_storm_to_end() {
    let program = compiled("exit-storm", 2);
    let worker = code_at(&program, program.start[0].entry);
    assert_eq!(worker[0], Instr::IgnoreChildren);
    let children: Vec<_> =
        all_spawned(worker, Spawn::Process).map(|entry| code_at(&program, entry)).collect();
    let [[Instr::Run(burner)], [Instr::Run(spark)]] = children[..] else { panic!("{children:?}") };
    // The default slice of sched_ext is 20 ms. A burner's may end before it does; a spark's ends in
    // its exit, which takes less than 0.1 ms.
    assert_eq!((burner.min.0, burner.max.0), (19_800_000, 24_200_000));
    assert_eq!((spark.min.0, spark.max.0), (19_900_000, 20_000_000));
}

#[test]
fn hogs_never_sleep() {
    let program = compiled("hogs", 4);
    let hog = code_at(&program, program.start[0].entry);
    assert!(hog.iter().all(|instr| matches!(instr, Instr::Run(_) | Instr::Jump(_))));
}

#[test]
fn mixed_has_some_of_everything() {
    for cpus in MACHINES {
        let program = compiled("mixed", cpus);
        let has = |what: fn(&Instr) -> bool| assert!(program.code.iter().any(what));
        has(|i| matches!(i, Instr::Run(_)));
        has(|i| matches!(i, Instr::Sleep(_)));
        has(|i| matches!(i, Instr::Timer { .. }));
        has(|i| matches!(i, Instr::CondWait { .. }));
        has(|i| matches!(i, Instr::SetNice(..)));
        has(|i| matches!(i, Instr::SetAffinity(..)));
        has(|i| matches!(i, Instr::SetPolicy(..)));
        has(|i| matches!(i, Instr::Spawn { what: Spawn::Process, .. }));
        has(|i| matches!(i, Instr::Spawn { what: Spawn::Thread, .. }));
        has(|i| matches!(i, Instr::Exec { .. }));
        has(|i| matches!(i, Instr::Exit));
        has(|i| matches!(i, Instr::ExitGroup));
        has(|i| matches!(i, Instr::Kill(_)));
        has(|i| matches!(i, Instr::Yield));
        let workload = Workload::builtin("mixed", cpus).unwrap();
        let pinned = workload.tasks.iter().filter(|task| task.attributes.cpus.is_some());
        assert_eq!(pinned.count(), cpus);
        assert!(workload.tasks.iter().any(|task| task.kind == Kind::Thread));
    }
}

/// Two tasks, one mutex and one condition variable.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Pair {
    pc: [usize; 2],
    /// The mutex's holder, and who waits for it.
    holder: Option<usize>,
    queue: VecDeque<usize>,
    /// Who waits on the condition variable.
    asleep: VecDeque<usize>,
}

impl Pair {
    fn blocked(&self, task: usize) -> bool {
        self.queue.contains(&task) || self.asleep.contains(&task)
    }

    fn lock(&mut self, task: usize) {
        match self.holder {
            None => self.holder = Some(task),
            Some(_) => self.queue.push_back(task),
        }
    }

    fn step(&mut self, task: usize, code: &[Instr], entry: usize) {
        let instr = &code[self.pc[task]];
        self.pc[task] += 1;
        match instr {
            Instr::Lock(_) => self.lock(task),
            Instr::Run(_) => assert_eq!(self.holder, Some(task), "work is done in turn"),
            Instr::CondSignal(_) => {
                if let Some(woken) = self.asleep.pop_front() {
                    self.lock(woken);
                }
            }
            Instr::CondWait { .. } => {
                assert_eq!(self.holder, Some(task));
                self.holder = self.queue.pop_front();
                self.asleep.push_back(task);
            }
            Instr::Jump(to) => self.pc[task] = to.0 as usize - entry,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_order_of_events_makes_a_pair_wait_for_ever() {
    let program = compiled("pingpong", 1);
    let entries: Vec<Pc> = program
        .code
        .iter()
        .filter_map(|instr| match instr {
            // Past the barrier at which threads begin.
            Instr::Spawn { entry, .. } => Some(Pc(entry.0 + 1)),
            _ => None,
        })
        .collect();
    let code = [code_at(&program, entries[0]), code_at(&program, entries[1])];
    let start = Pair { pc: [0, 0], holder: None, queue: VecDeque::new(), asleep: VecDeque::new() };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(pair) = open.pop() {
        let ready: Vec<_> = (0..2).filter(|task| !pair.blocked(*task)).collect();
        assert!(!ready.is_empty(), "both wait: {:?}", pair.pc);
        for task in ready {
            let mut next = pair.clone();
            next.step(task, code[task], entries[task].0 as usize);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    assert!(seen.len() > 10);
}
