//! Ctrl-C, and what else asks us to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// True from when the user, or the system, asks us to stop. From the first call on, the signals do
/// nothing else.
pub(super) fn flag() -> Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let install = || {
        let flag = Arc::new(AtomicBool::new(false));
        let ours = flag.clone();
        // If there is a handler already, the signal ends us, and the guest dies with us.
        let _ = ctrlc::set_handler(move || ours.store(true, Ordering::Relaxed));
        flag
    };
    FLAG.get_or_init(install).clone()
}
