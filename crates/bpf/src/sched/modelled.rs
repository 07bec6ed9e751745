//! Keeps `docs/modelled.md` true: what it lists is what there is.

use std::collections::BTreeSet;

use scxlab_engine::TracepointSet;

use super::{bpf_func, ops};
use crate::abi::{Abi, Version};
use crate::btf::{Kind, Type};
use crate::object::Target as _;

const LIST: &str = include_str!("../../../../docs/modelled.md");

/// The names in a section of the list.
fn listed(title: &str) -> BTreeSet<String> {
    let section = LIST.split("\n## ").find(|section| section.starts_with(title));
    let section = section.unwrap_or_else(|| panic!("docs/modelled.md has no section {title}"));
    section.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn is_listed(title: &str, there: BTreeSet<String>) {
    let listed = listed(title);
    let new: Vec<_> = there.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "{title}: docs/modelled.md lacks {new:?}, and has {gone:?}, which is not there"
    );
}

#[test]
fn kernel_functions() {
    let abis = Version::ALL.map(|version| Abi::new(version).expect("the declarations make sense"));
    let names = abis.iter().flat_map(Abi::kfuncs).map(|(name, _)| name.to_owned());
    let (own, bpf) = names.partition(|name: &String| name.contains("scx_"));
    is_listed("Kernel functions of sched_ext", own);
    is_listed("Kernel functions of BPF", bpf);
}

#[test]
fn helpers() {
    let all = (0..1000).filter(|&number| bpf_func::is_known(number));
    is_listed("Helpers", all.map(|n| bpf_func::name(n).replace("()", "")).collect());
}

/// A scheduler that asks whether there is a helper is told what is called for it.
#[test]
fn helpers_are_declared() {
    let there: BTreeSet<_> = (0..1000)
        .filter(|&number| bpf_func::is_known(number))
        .map(|number| (bpf_func::name(number).replace("()", ""), i128::from(number)))
        .collect();
    for version in Version::ALL {
        let abi = Abi::new(version).expect("the declarations make sense");
        let id = abi.btf().find("bpf_func_id", Kind::Enum).expect("it is declared");
        let Type::Enum(all) = abi.btf().ty(id) else { panic!("it is no enumeration") };
        let name = |value| abi.btf().name(value).replace("BPF_FUNC_", "bpf_");
        let declared = all.values.iter().map(|value| (name(value.name), all.value(value)));
        assert_eq!(declared.collect::<BTreeSet<_>>(), there, "{version}");
    }
}

#[test]
fn places_of_programs() {
    let functions = TracepointSet::functions();
    let names =
        |set: TracepointSet| set.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    is_listed("Tracepoints", names(TracepointSet::all() - functions));
    let own = ops::REGISTERED.strip_prefix("fentry/").map(str::to_owned);
    let functions: BTreeSet<String> = names(functions);
    is_listed("Functions", functions.into_iter().chain(own).collect());
}

#[test]
fn operations() {
    is_listed("Operations", ops::called().map(str::to_owned).collect());
    is_listed("Never called", ops::NEVER_CALLED.iter().map(|&name| name.to_owned()).collect());
}
