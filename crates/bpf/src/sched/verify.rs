//! What the kernel's verifier refuses of operations as they are loaded, whether the call is ever
//! made or not.

use super::kfunc::is_of_cpus;
use crate::Image;
use crate::abi::Abi;
use crate::image::StructOps;
use crate::reachable;

/// The members that may sleep: `bpf_scx_check_member()`, in both forms.
const SLEEPABLE: [&str; 15] = [
    "init_task",
    "cgroup_init",
    "cgroup_exit",
    "cgroup_prep_move",
    "cpuctl_init",
    "cpuctl_exit",
    "cpuctl_prep_move",
    "cpu_online",
    "cpu_offline",
    "cid_online",
    "cid_offline",
    "init",
    "exit",
    "sub_attach",
    "sub_detach",
];

/// Only 7.3 has it.
const INIT_CIDS: &str = "init_cids";

/// `license_is_gpl_compatible()`.
const GPL_COMPATIBLE: [&str; 6] =
    ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/// What is wrong, in the verifier's words.
pub(super) fn operations(image: &Image, ops: &StructOps, abi: &Abi, refused: &mut Vec<String>) {
    if !GPL_COMPATIBLE.contains(&image.license.as_str()) {
        // check_struct_ops_btf_id()
        let said = match image.license.as_str() {
            "" => "there is no section `license`".to_owned(),
            license => format!("its license is `{license}`"),
        };
        refused.push(format!("struct ops programs must have a GPL compatible license; {said}"));
    }
    let form = ops.type_name.as_str();
    for member in &ops.members {
        let program = ops.operation(&member.name).and_then(|index| image.programs.get(index));
        let Some(program) = program else { continue };
        let name = image.functions.get(program.function).map_or("", |f| f.name.as_str());
        let may_sleep = SLEEPABLE.contains(&member.name.as_str()) || member.name == INIT_CIDS;
        if program.sleepable && !may_sleep {
            let member = &member.name;
            refused.push(format!("{name}: attach to unsupported member {member} of struct {form}"));
        }
        for kfunc in reachable::kfuncs(image, program.function) {
            if form == "sched_ext_ops_cid" && is_of_cpus(kfunc) {
                refused.push(format!("{name}: calling kernel function {kfunc} is not allowed"));
            } else if !program.sleepable && abi.kfunc(kfunc).is_some_and(|kfunc| kfunc.sleepable) {
                refused.push(format!(
                    "{name}: program must be sleepable to call sleepable kfunc {kfunc}"
                ));
            }
        }
    }
}
