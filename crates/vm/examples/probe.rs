//! Boots a kernel and prints what the agent says: `probe IMAGE [OBJECT [NAME=VALUE]...]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use scxlab_protocol::{Job, Run, Setting, Task, WorkloadSource};
use scxlab_vm::{Cargo, Machine};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let image = args.next().ok_or("which image?")?;
    let object = args.next();
    let set = args.filter_map(|arg| {
        let (name, value) = arg.split_once('=')?;
        Some(Setting { name: name.to_owned(), value: value.to_owned() })
    });
    let task = match &object {
        None => Task::Probe,
        Some(_) => Task::Run(Run {
            object: PathBuf::from("/scheduler.bpf.o"),
            ops: None,
            with: Vec::new(),
            without: Vec::new(),
            set: set.collect(),
            prog_runs: Vec::new(),
            flags: None,
            workload: WorkloadSource::Builtin("nonleader-exec".to_owned()),
            duration_ns: 10_000_000_000,
        }),
    };
    let files = object.map(|here| (PathBuf::from("/scheduler.bpf.o"), PathBuf::from(here)));
    let cargo = Cargo {
        agent: scxlab_vm::find_agent()?,
        job: Job { task, seed: 1, cpus: 2 },
        files: files.into_iter().collect(),
    };
    let start = std::time::Instant::now();
    let mut guest = Machine::new(image, 2).boot(&cargo, &Arc::new(AtomicBool::new(false)))?;
    println!("{:.1} s: {:?} {:?}", start.elapsed().as_secs_f64(), guest.kernel(), guest.notes());
    while let Some(record) = guest.next()? {
        println!("{:.1} s: {record:?}", start.elapsed().as_secs_f64());
    }
    println!("{}", guest.log().join("\n"));
    Ok(())
}
