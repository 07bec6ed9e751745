//! The agent: what runs on a real kernel. As the first process of a VM it sets the guest up and does
//! the job that it finds there; on a host it does the job that it is given.

use std::process::ExitCode;

use scxlab_agent::{host, init, play};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next();
    // First of all: tasks of a workload exec this, many times a second.
    if command.as_ref().is_some_and(|command| command == play::SUBCOMMAND) {
        play::image_main(args);
    }
    if std::process::id() == 1 {
        return init::main();
    }
    match (command, args.next()) {
        (Some(command), Some(file)) if command == "job" => host::main(file.as_ref()),
        _ => {
            eprintln!(
                "usage: scxlab-agent job FILE\nDoes the job in FILE (JSON) on this kernel, and prints \
                 records as JSON lines. `scxlab run --on host` calls it."
            );
            ExitCode::from(2)
        }
    }
}
