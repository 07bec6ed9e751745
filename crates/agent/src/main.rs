//! The agent: what runs on a real kernel. As the first process of a VM it sets the guest up and does
//! the job that it finds there; on a host it does the job that it is given.

use std::process::ExitCode;

use scxlab_agent::{host, init};

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return init::main();
    }
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.split_first() {
        Some((command, rest)) if command == "job" && rest.len() == 1 => host::main(rest[0].as_ref()),
        _ => {
            eprintln!(
                "usage: scxlab-agent job FILE\nDoes the job in FILE (JSON) on this kernel, and prints \
                 records as JSON lines. `scxlab run --on host` calls it."
            );
            ExitCode::from(2)
        }
    }
}
