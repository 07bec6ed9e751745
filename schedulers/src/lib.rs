//! The schedulers that scxlab ships, for the engine.
//!
//! | name | what it is |
//! | --- | --- |
//! | [`qmap`](Qmap) | five FIFOs by weight, linked through task contexts in an arena; finds its tasks by tid, or by pid to show why not |
//! | [`simple`](Simple) | one queue for all CPUs, by virtual time or FIFO; the smallest complete example |
//!
//! ```
//! use scxlab_schedulers::create;
//! let qmap = create("qmap", &[("key".into(), "pid".into())])?;
//! assert_eq!(qmap.ops().name, "qmap");
//! # Ok::<(), scxlab_schedulers::CreateError>(())
//! ```
#![forbid(unsafe_code)]

mod options;
mod qmap;
mod simple;

use std::sync::Arc;

use scxlab_engine::Scheduler;

pub use options::{CreateError, SchedOption};
pub use qmap::{Key, Qmap};
pub use simple::Simple;

use options::Options;

/// A scheduler that can be created by name.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// What can be set.
    pub options: &'static [SchedOption],
}

/// All of them.
pub const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "qmap",
        about: "five FIFOs by weight; finds its tasks by tid, or by pid",
        options: qmap::OPTIONS,
    },
    Builtin {
        name: "simple",
        about: "one queue for all CPUs, by virtual time or FIFO",
        options: simple::OPTIONS,
    },
];

/// Creates a scheduler by name, with options as `KEY=VALUE` pairs. Of two settings of one key the
/// later counts.
///
/// # Errors
/// An unknown name, key or value, with what there is instead.
pub fn create(
    name: &str,
    settings: &[(String, String)],
) -> Result<Arc<dyn Scheduler>, CreateError> {
    let Some(builtin) = BUILTINS.iter().find(|builtin| builtin.name == name) else {
        let known: Vec<_> = BUILTINS.iter().map(|builtin| builtin.name).collect();
        return Err(CreateError::unknown_scheduler(name, &known));
    };
    let options = Options::new(builtin.name, builtin.options, settings)?;
    Ok(match builtin.name {
        "qmap" => Arc::new(Qmap::from_options(&options)?),
        _ => Arc::new(Simple::from_options(&options)?),
    })
}
