//! Has the agent check a few claims, and prints what it says: `claims IMAGE OBJECTS [NUMBER]...`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use scxlab_protocol::{Job, Task};
use scxlab_vm::{Accel, Cargo, Machine};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let image = args.next().ok_or("which image?")?;
    let objects = args.next().ok_or("where are the compiled programs?")?;
    let only = args.map(|number| number.parse()).collect::<Result<Vec<u8>, _>>()?;
    let directory = Path::new("/claims");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(objects)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push((directory.join(entry.file_name()), entry.path()));
        }
    }
    let task = Task::Claims { objects: PathBuf::from(directory), only };
    let job = Job { task, seed: 1, cpus: 2 };
    let cargo = Cargo { agent: scxlab_vm::find_agent()?, job, files };
    let start = std::time::Instant::now();
    let machine = Machine { accel: Accel::Tcg, ..Machine::new(image, 2) };
    let mut guest = machine.boot(&cargo, &Arc::new(AtomicBool::new(false)))?;
    println!("{:.1} s: {:?}", start.elapsed().as_secs_f64(), guest.kernel());
    let end = loop {
        match guest.next() {
            Ok(Some(record)) => println!("{:.1} s: {record:?}", start.elapsed().as_secs_f64()),
            end => break end,
        }
    };
    println!("{}", guest.log().join("\n"));
    end?;
    Ok(())
}
