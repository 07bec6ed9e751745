//! The binary: from the command line to the exit status.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use scxlab::args::Cli;
use scxlab::output::{Terminal, aside};
use scxlab::status::Status;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Help and version come as errors too. Whoever closed the pipe does not want them.
            let _ = err.print();
            return if err.use_stderr() { Status::Wrong } else { Status::Fine }.into();
        }
    };
    let mut terminal = Terminal::stdout();
    let done = scxlab::execute(&cli, &mut terminal);
    let flushed = terminal.flush();
    let status = done.and_then(|status| flushed.map(|()| status));
    status
        .unwrap_or_else(|failure| {
            aside(&failure);
            failure.status
        })
        .into()
}
