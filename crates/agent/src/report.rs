//! Where records go.

use std::io::{ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use scxlab_protocol::Record;

use crate::stop;

/// Where records go: a line each, at once.
pub struct Report(Mutex<Box<dyn Write + Send>>);

impl Report {
    /// To `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(out)))
    }

    /// Says something. If nobody listens any more, the job is to stop.
    pub fn say(&self, record: &Record) {
        let Ok(mut line) = serde_json::to_vec(record) else { return };
        line.push(b'\n');
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = out.write_all(&line).and_then(|()| out.flush());
        if said.is_err_and(|err| err.kind() == ErrorKind::BrokenPipe) {
            stop::ask();
        }
    }

    /// What the agent does now.
    pub fn doing(&self, what: impl Into<String>) {
        self.say(&Record::Doing { what: what.into() });
    }
}
