//! The agent: what runs on a real kernel.

use scxlab_agent::play;

fn main() {
    let mut args = std::env::args_os().skip(1);
    // First of all: tasks of a workload exec this, many times a second.
    if args.next().is_some_and(|arg| arg == play::SUBCOMMAND) {
        play::image_main(args);
    }
}
