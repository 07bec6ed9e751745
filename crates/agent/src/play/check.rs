//! What must be so before a workload is played.

use std::path::Path;

use scxlab_engine::Program;
use scxlab_engine::program::{Instr, Policy};

use super::error::PlayError;
use super::{script, settings};

/// Refuses what cannot be played here.
pub(super) fn check(program: &Program) -> Result<(), PlayError> {
    program.check()?;
    if program.start.is_empty() {
        return Err(PlayError::NothingStarts);
    }
    for (pc, instr) in program.code.iter().enumerate() {
        let what = match instr {
            Instr::MigrateDisable => "migrate_disable()",
            Instr::MigrateEnable => "migrate_enable()",
            _ => continue,
        };
        return Err(PlayError::NotPlayable { pc: pc as u32, what });
    }
    if let Some(at) = wants_ext(program)
        && !has_ext()
    {
        return Err(PlayError::NoExt { at });
    }
    if !Path::new("/proc/self/stat").exists() {
        return Err(PlayError::NoProc);
    }
    Ok(())
}

/// Whether a task is ever moved to a cgroup.
pub(super) fn wants_cgroups(program: &Program) -> bool {
    program.code.iter().any(|instr| matches!(instr, Instr::SetCgroup(_)))
        || program.start.iter().any(|start| start.cgroup.is_some())
}

/// Where the program first asks for `SCHED_EXT`.
fn wants_ext(program: &Program) -> Option<String> {
    let set = |instr: &Instr| matches!(instr, Instr::SetPolicy(_, Policy::Ext));
    if let Some(pc) = program.code.iter().position(set) {
        return Some(format!("instruction {pc}"));
    }
    let start = program.start.iter().find(|start| start.policy == Policy::Ext)?;
    let name = program.names.get(start.name as usize)?;
    Some(format!("task `{name}`"))
}

/// Tries it, in a thread that is there for nothing else.
fn has_ext() -> bool {
    let attempt = || settings::set_policy(0, script::policy_number(Policy::Ext)).is_ok();
    std::thread::scope(|scope| scope.spawn(attempt).join().unwrap_or(false))
}
