//! Counts the live tasks of a process group, as `/proc` shows them.

use std::io;

/// How many tasks of the group live, without its leader. A zombie does not, its threads do.
pub(super) fn live(group: i32) -> io::Result<u64> {
    let mut live = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid == group {
            continue;
        }
        // One that is gone by now is not alive.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        live += live_threads(&stat, group).unwrap_or(0);
    }
    Ok(live)
}

/// What a process's `stat` says of its live threads, if it is of the group.
fn live_threads(stat: &str, group: i32) -> Option<u64> {
    // The name may have anything in it.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let pgrp: i32 = fields.nth(1)?.parse().ok()?;
    let threads: u64 = fields.nth(14)?.parse().ok()?;
    if pgrp != group {
        return None;
    }
    let leader_is_dead = matches!(state, "Z" | "X");
    Some(threads.saturating_sub(u64::from(leader_is_dead)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(state: &str, group: i32, threads: u32) -> String {
        let rest = "0 -1 4194560 86 0 0 0 0 0 0 0 20 0";
        format!("77 (a) b (c)) {state} 1 {group} 5 {rest} {threads} 0 99 1 2\n")
    }

    #[test]
    fn zombies_do_not_live_but_their_threads_do() {
        assert_eq!(live_threads(&stat("S", 9, 3), 9), Some(3));
        assert_eq!(live_threads(&stat("Z", 9, 3), 9), Some(2));
        assert_eq!(live_threads(&stat("Z", 9, 1), 9), Some(0));
        assert_eq!(live_threads(&stat("R", 8, 3), 9), None);
        assert_eq!(live_threads("nonsense", 9), None);
    }

    #[test]
    fn reads_this_very_process() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        // SAFETY: no arguments.
        let group = unsafe { libc::getpgrp() };
        assert!(live_threads(&stat, group).unwrap() >= 1, "{stat}");
    }
}
