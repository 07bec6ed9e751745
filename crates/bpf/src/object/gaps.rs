//! Instructions for which the kernel lacks something, and whether programs can do without.

use std::collections::{BTreeMap, BTreeSet};

use super::{Object, always};
use crate::Image;
use crate::btf::essential_name;
use crate::reachable::reachable;

/// The operations that hardly any run goes without. The others are called for some workloads only, and
/// so are other programs.
const CALLED: [&str; 11] = [
    "init",
    "init_task",
    "enable",
    "runnable",
    "select_cpu",
    "select_cid",
    "enqueue",
    "dispatch",
    "running",
    "stopping",
    "quiescent",
];

/// An instruction that must not be reached: see [`crate::image::Poison`].
pub(super) struct Gap {
    /// The number of its function.
    pub(super) function: usize,
    /// The instruction in it.
    pub(super) insn: usize,
    /// What the kernel lacks, in libbpf's words.
    pub(super) text: String,
    /// The line for [`lacking`], if the target lacks a field for a kernel that may have it.
    pub(super) lacks: Option<String>,
}

/// The fields that the target lacks, and who reads them, if the scheduler cannot run without: if an
/// operation of [`CALLED`] reads one of them whatever it decides. Others may never be read.
pub(super) fn lacking(object: &Object, image: &Image, gaps: &[Gap]) -> Vec<String> {
    let starts = super::place::starts(&object.functions);
    let placed = |gap: &Gap| Some(starts[gap.function]? + gap.insn);
    let all = gaps.iter().filter_map(|gap| Some((placed(gap)?, gap.lacks.as_deref()?)));
    let mut fields: BTreeMap<usize, &str> = all.collect();
    if fields.is_empty() {
        return Vec::new();
    }
    let reached = reachable(image);
    fields.retain(|&insn, _| reached[insn]);
    let always = always::functions(image, &reached, &fields.keys().copied().collect());
    let mut called = called(object).filter_map(|function| starts[function]);
    if !called.any(|start| always.contains(&start)) {
        return Vec::new();
    }
    let mut users: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (insn, field) in fields {
        users.entry(field).or_default().insert(insn);
    }
    let line = |(field, insns)| format!("{field}{}", used_by(&names(image, &insns)));
    users.into_iter().map(line).collect()
}

/// The functions that such operations are.
fn called(object: &Object) -> impl Iterator<Item = usize> {
    let of_scx = |ty| essential_name(object.btf.name_of(ty)).starts_with("sched_ext_ops");
    let loaded = object.ops.iter().filter(move |ops| ops.autocreate && of_scx(ops.ty));
    loaded.flat_map(|ops| {
        let name = |member: usize| {
            let member = object.btf.ty(ops.ty).composite()?.members.get(member)?;
            Some(object.btf.name(member.name))
        };
        let is_called = move |member| name(member).is_some_and(|name| CALLED.contains(&name));
        let operations = ops.operations.iter();
        operations.filter_map(move |&(member, function)| is_called(member).then_some(function))
    })
}

/// The functions that instructions are of, each with the first line.
fn names(image: &Image, insns: &BTreeSet<usize>) -> Vec<String> {
    let mut names: BTreeMap<usize, String> = BTreeMap::new();
    for &insn in insns {
        let next = image.functions.partition_point(|function| function.start <= insn);
        let Some(function) = next.checked_sub(1) else { continue };
        names.entry(function).or_insert_with(|| {
            let function = &image.functions[function];
            let next = image.lines.partition_point(|line| line.insn <= insn);
            let line = next.checked_sub(1).map(|at| &image.lines[at]);
            match line.filter(|line| line.insn >= function.start) {
                Some(line) => format!("{} at {}:{}", function.name, line.file, line.line),
                None => function.name.clone(),
            }
        });
    }
    names.into_values().collect()
}

/// For the end of a message.
pub(super) fn used_by<T: AsRef<str>>(users: &[T]) -> String {
    const NAMED: usize = 4;
    let names: Vec<_> = users.iter().take(NAMED).map(AsRef::as_ref).collect();
    let names = names.join(", ");
    match users.len() {
        0 => String::new(),
        len if len > NAMED => format!(" (used by {names} and {} more)", len - NAMED),
        _ => format!(" (used by {names})"),
    }
}
