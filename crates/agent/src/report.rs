//! Where records go.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use scxlab_protocol::Record;

/// Where records go: a line each, at once.
pub struct Report(Mutex<Box<dyn Write + Send>>);

impl Report {
    /// To `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(out)))
    }

    /// Says something. If nobody listens any more, nothing happens: whoever started the job sees to
    /// its end.
    pub fn say(&self, record: &Record) {
        let Ok(mut line) = serde_json::to_vec(record) else { return };
        line.push(b'\n');
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }

    /// What the agent does now.
    pub fn doing(&self, what: impl Into<String>) {
        self.say(&Record::Doing { what: what.into() });
    }
}
