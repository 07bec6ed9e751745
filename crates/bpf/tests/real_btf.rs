//! The engine's declarations against the BTF of the kernels that they stand for.
//!
//! Each kernel that is at hand is looked at, from the images that `scxlab kernels` has, or from
//! files `VERSION.btf` in the directory that `SCXLAB_BTF` names. Then compiled objects are loaded
//! against both: ours, and those in the directory that `SCXLAB_OBJECTS` names. Deviations are
//! listed here, and one that does not hold any more is a failure as well.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use scxlab_bpf::abi::{Abi, Version};
use scxlab_bpf::btf::{Btf, Composite, Kind, Member, Type, TypeId};
use scxlab_bpf::object::{Object, Target, are_compatible};

/// The functions whose implied parameter Debian's 7.1 shows: `const struct bpf_prog_aux *aux`, the
/// last. Its build lost their other prototype, without it, which the declarations have.
const SHOWN_AUX: &[&str] = &[
    "scx_bpf_cpuperf_cap",
    "scx_bpf_cpuperf_cur",
    "scx_bpf_cpuperf_set",
    "scx_bpf_create_dsq",
    "scx_bpf_destroy_dsq",
    "scx_bpf_dispatch_cancel",
    "scx_bpf_dispatch_nr_slots",
    "scx_bpf_dsq_insert___v2",
    "scx_bpf_dsq_nr_queued",
    "scx_bpf_dsq_peek",
    "scx_bpf_exit_bstr",
    "scx_bpf_get_idle_cpumask",
    "scx_bpf_get_idle_cpumask_node",
    "scx_bpf_get_idle_smtmask",
    "scx_bpf_pick_any_cpu",
    "scx_bpf_pick_any_cpu_node",
    "scx_bpf_task_set_dsq_vtime",
    "scx_bpf_task_set_slice",
    "scx_bpf_test_and_clear_cpu_idle",
];

/// A kernel's types, if it is at hand.
fn real(version: Version) -> Option<Btf> {
    let bytes = match env::var_os("SCXLAB_BTF") {
        Some(dir) => fs::read(Path::new(&dir).join(format!("{version}.btf"))).ok()?,
        None => {
            let kernel = scxlab_kernels::find(&version.to_string()).ok()?;
            let image = scxlab_kernels::image::read(&kernel.image).expect("it was found");
            let btf = scxlab_kernels::image::btf(&image).expect("it was whole");
            btf.expect("a kernel with sched_ext has BTF")
        }
    };
    Some(Btf::parse(&bytes).expect("a kernel's BTF can be read"))
}

#[test]
fn what_is_declared_is_what_kernels_have() {
    let mut looked_at = 0;
    let mut wrong = Vec::new();
    for version in Version::ALL {
        let Some(real) = real(version) else {
            eprintln!("skipped {version}: no kernel; `scxlab kernels fetch {version}` gets one");
            continue;
        };
        looked_at += 1;
        let ours = Abi::new(version).expect("the declarations make sense");
        let mut check = Check { version, ours: ours.btf(), real: &real, wrong: Vec::new() };
        check.all_of_ours();
        check.all_of_sched_ext();
        eprintln!("{version}: {} types, {} differences", ours.btf().len(), check.wrong.len());
        wrong.append(&mut check.wrong);
    }
    assert!(looked_at > 0, "no kernel is at hand: `scxlab kernels fetch 7.2` gets one");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The real kernel as a target; its configuration, its list of symbols and what is left out are as
/// ours.
struct Kernel<'a> {
    btf: &'a Btf,
    abi: &'a Abi,
}

impl Target for Kernel<'_> {
    fn btf(&self) -> &Btf {
        self.btf
    }

    fn kernel_version(&self) -> u32 {
        self.abi.kernel_version()
    }

    fn kconfig(&self, name: &str) -> Option<String> {
        self.abi.kconfig(name)
    }

    fn has_symbol(&self, name: &str) -> bool {
        self.abi.has_symbol(name)
    }

    fn never_runs(&self, section: &str) -> Option<&'static str> {
        self.abi.never_runs(section)
    }
}

/// What a kernel says to an object: what it lacks, or what it has of what the object asks for.
fn answer(bytes: &[u8], target: &dyn Target) -> Vec<String> {
    let mut object = match Object::parse(bytes) {
        Ok(object) => object,
        Err(err) => return vec![format!("no object: {err}")],
    };
    let filled = object.fill_enumerators(target).expect("its variables are there");
    match object.load(target) {
        Err(err) => vec![format!("refused: {err}")],
        Ok(image) if !image.lacking.is_empty() => {
            vec![format!("refused: {}", image.lacking.join("\n"))]
        }
        Ok(image) => {
            let kfuncs = image.kfuncs.iter().map(|kfunc| format!("kfunc {}", kfunc.symbol));
            let ksyms = image.ksyms.iter().map(|ksym| format!("symbol {}", ksym.name));
            let poison = image.poison.iter().map(|p| format!("poison {}: {}", p.insn, p.text));
            let mut all: Vec<_> = kfuncs.chain(ksyms).chain(poison).collect();
            all.push(format!("{filled} numbers"));
            all
        }
    }
}

/// Objects that have been compiled here, if any, and those in the directory `SCXLAB_OBJECTS`.
fn compiled() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf");
    let dirs = [Some(here), env::var_os("SCXLAB_OBJECTS").map(PathBuf::from)];
    let files = dirs.into_iter().flatten().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
    let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".bpf.o"));
    paths.sort();
    paths
}

#[test]
fn objects_see_no_difference() {
    let objects = compiled();
    if objects.is_empty() {
        eprintln!("skipped: nothing is compiled; cargo xtask bpf does that");
    }
    let mut wrong = Vec::new();
    for version in Version::ALL {
        let Some(btf) = real(version) else { continue };
        let abi = Abi::new(version).expect("the declarations make sense");
        let kernel = Kernel { btf: &btf, abi: &abi };
        for path in &objects {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let bytes = fs::read(path).expect("it can be read");
            let (ours, theirs) = (answer(&bytes, &abi), answer(&bytes, &kernel));
            // On Debian's 7.1 an object meets functions with a parameter more.
            let differ = |a: &[String], b: &[String]| -> Vec<String> {
                let is_shown = |line: &str| SHOWN_AUX.iter().any(|name| line.contains(name));
                let mut lines = a.iter().filter(|line| !b.contains(line)).cloned().collect();
                if version == Version::V7_1 {
                    let lines: &mut Vec<String> = &mut lines;
                    lines.retain(|line| !is_shown(line));
                }
                lines
            };
            let (here, there) = (differ(&ours, &theirs), differ(&theirs, &ours));
            let refused_there = version == Version::V7_1
                && theirs.first().is_some_and(|line| line.starts_with("refused"));
            if !refused_there && (!here.is_empty() || !there.is_empty()) {
                wrong.push(format!("{name}, {version}: here {here:#?}, there {there:#?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

struct Check<'a> {
    version: Version,
    ours: &'a Btf,
    real: &'a Btf,
    wrong: Vec<String>,
}

impl Check<'_> {
    fn fail(&mut self, what: impl AsRef<str>) {
        self.wrong.push(format!("{}: {}", self.version, what.as_ref()));
    }

    /// The kernel's type for one of ours.
    fn theirs(&self, id: TypeId) -> Option<TypeId> {
        let ty = self.ours.ty(id);
        if let Type::Enum(e) = ty
            && self.ours.name(e.name).is_empty()
        {
            // One without a name is known by its first value.
            let first = self.ours.name(e.values.first()?.name);
            return self.real.iter().find_map(|(id, ty)| {
                let Type::Enum(other) = ty else { return None };
                let is_it = self.real.name(other.values.first()?.name) == first;
                (is_it && self.real.name(other.name).is_empty()).then_some(id)
            });
        }
        self.real.find(self.ours.name_of(id), ty.kind())
    }

    fn all_of_ours(&mut self) {
        for (id, ty) in self.ours.iter() {
            let what = format!("{} {}", ty.kind().as_str(), self.ours.name_of(id));
            let is_named = !self.ours.name_of(id).is_empty() || matches!(ty, Type::Enum(_));
            if !is_named {
                continue;
            }
            let Some(real) = self.theirs(id) else {
                self.fail(format!("{what} is not there"));
                continue;
            };
            match (ty, self.real.ty(real)) {
                (Type::Struct(ours), Type::Struct(_)) | (Type::Union(ours), Type::Union(_)) => {
                    self.members(&what, ours, real);
                }
                (Type::Enum(_), Type::Enum(_)) => self.values(&what, id, real),
                (Type::Func { proto, .. }, Type::Func { proto: theirs, .. }) => {
                    self.function(self.ours.name_of(id).to_owned(), *proto, *theirs);
                }
                (Type::Int(ours), Type::Int(theirs)) => {
                    let same = (ours.size, ours.signed, ours.bool)
                        == (theirs.size, theirs.signed, theirs.bool);
                    if !same {
                        self.fail(format!("{what} is another there"));
                    }
                }
                (Type::Typedef { to, .. }, Type::Typedef { to: theirs, .. })
                | (Type::Var { ty: to, .. }, Type::Var { ty: theirs, .. }) => {
                    self.expect_same(&what, *to, *theirs);
                }
                _ => self.fail(format!("{what} is of another kind")),
            }
        }
    }

    fn members(&mut self, what: &str, ours: &Composite, real: TypeId) {
        let mut theirs = BTreeMap::new();
        flatten(self.real, real, &mut theirs);
        let mut all = Vec::new();
        for member in &ours.members {
            all.push((self.ours.name(member.name).to_owned(), *member));
        }
        for (name, member) in all {
            match theirs.get(&name) {
                None => self.fail(format!("{what} has no {name}")),
                Some(other) if other.bits != member.bits => {
                    self.fail(format!("{what}: {name} has other bits"));
                }
                Some(other) => self.expect_same(&format!("{what}: {name}"), member.ty, other.ty),
            }
        }
        // What programs have in their own memory has the kernel's size, and all of its members.
        let name = what.split(' ').next_back().unwrap_or_default();
        let size = (ours.size, self.real.size_of(real).unwrap_or(0));
        let opaque =
            name.starts_with("bpf_") && !matches!(name, "bpf_map" | "bpf_prog_aux" | "bpf_cpumask");
        let is_whole = opaque || name.ends_with("_args") || matches!(name, "cpumask" | "scx_cmask");
        if is_whole && size.0 != size.1 {
            self.fail(format!("{what} has {} bytes, and {} there", size.0, size.1));
        }
        let is_of_ext = name.starts_with("sched_ext_")
            || name.starts_with("scx_")
                && !matches!(name, "scx_sched" | "scx_rq" | "scx_dispatch_q");
        if is_whole || is_of_ext {
            let ours: BTreeSet<_> = ours.members.iter().map(|m| self.ours.name(m.name)).collect();
            let missing: Vec<_> =
                theirs.keys().filter(|name| !ours.contains(name.as_str())).collect();
            // The end of the structure, without a size.
            let missing: Vec<_> = missing.into_iter().filter(|name| *name != "__end").collect();
            if !missing.is_empty() {
                self.fail(format!("{what} lacks {missing:?}"));
            }
        }
    }

    fn values(&mut self, what: &str, id: TypeId, real: TypeId) {
        let values = |btf: &Btf, id| -> BTreeMap<String, i128> {
            let Type::Enum(e) = btf.ty(id) else { return BTreeMap::new() };
            e.values.iter().map(|v| (btf.name(v.name).to_owned(), e.value(v))).collect()
        };
        let (ours, theirs) = (values(self.ours, id), values(self.real, real));
        if ours != theirs {
            let differ = |(name, value): (&String, &i128)| {
                (theirs.get(name) != Some(value)).then(|| format!("{name} = {value}"))
            };
            let ours: Vec<_> = ours.iter().filter_map(differ).collect();
            // Of helpers we declare those that there are.
            if ours.is_empty() && self.ours.name_of(id) == "bpf_func_id" {
                return;
            }
            self.fail(format!("{what} is another: we have {ours:?} of {theirs:?}"));
        }
        if self.ours.ty(id).kind() != self.real.ty(real).kind()
            || self.ours.size_of(id) != self.real.size_of(real)
        {
            self.fail(format!("{what} has another size"));
        }
    }

    fn function(&mut self, name: String, ours: TypeId, theirs: TypeId) {
        let shows_aux = self.version == Version::V7_1 && SHOWN_AUX.contains(&name.as_str());
        let compatible = are_compatible((self.ours, ours), (self.real, theirs));
        if shows_aux {
            let count = |btf: &Btf, id| match btf.ty(id) {
                Type::FuncProto(proto) => proto.params.len(),
                _ => 0,
            };
            let Type::FuncProto(proto) = self.real.ty(theirs) else { return };
            let last = proto.params.last().map(|param| self.real.name(param.name));
            let is_so = last == Some("aux")
                && count(self.real, theirs) == count(self.ours, ours) + 1
                && compatible == Ok(false);
            if !is_so {
                self.fail(format!("{name} shows no implied parameter any more"));
            }
        } else if compatible != Ok(true) {
            self.fail(format!("{name} has another prototype ({compatible:?})"));
        }
        let (Type::FuncProto(a), Type::FuncProto(b)) = (self.ours.ty(ours), self.real.ty(theirs))
        else {
            return self.fail(format!("{name} has no prototype"));
        };
        self.expect_same(&format!("{name}(): the result"), a.result, b.result);
        for (a, b) in a.params.iter().zip(&b.params) {
            let is = self.ours.name(a.name);
            if is != self.real.name(b.name) {
                let other = self.real.name(b.name);
                self.fail(format!("{name}(): parameter {is} is called {other}"));
            }
            self.expect_same(&format!("{name}(): {is}"), a.ty, b.ty);
        }
    }

    fn expect_same(&mut self, what: &str, ours: TypeId, theirs: TypeId) {
        if !same(self.ours, ours, self.real, theirs, 8) {
            let (a, b) = (self.ours.describe(ours), self.real.describe(theirs));
            self.fail(format!("{what} is {a}, and {b} there"));
        }
    }

    /// What the kernel has of sched_ext, we have.
    fn all_of_sched_ext(&mut self) {
        let is_kfunc = |name: &str| {
            name.starts_with("scx_bpf_")
                || name.starts_with("__scx_bpf_")
                || name.starts_with("bpf_iter_scx_")
        };
        // A twin with the implied parameter, and one function of the core itself.
        let is_inner = |name: &str| name.ends_with("_impl") || name == "__scx_bpf_now";
        let mut missing = Vec::new();
        for (id, ty) in self.real.iter() {
            match ty {
                Type::Func { .. } => {
                    let name = self.real.name_of(id);
                    let ours = self.ours.find(name, Kind::Func);
                    if is_kfunc(name) && !is_inner(name) && ours.is_none() {
                        missing.push(format!("{name}() is missing"));
                    }
                }
                Type::Enum(e) => {
                    let is_ours = |name: &str| {
                        self.ours.iter().any(|(_, ty)| match ty {
                            Type::Enum(e) => {
                                e.values.iter().any(|v| self.ours.name(v.name) == name)
                            }
                            _ => false,
                        })
                    };
                    let names = e.values.iter().map(|value| self.real.name(value.name));
                    let of_ext = names.filter(|n| n.starts_with("SCX_") || n.starts_with("__SCX_"));
                    let lacking = of_ext.filter(|name| !is_ours(name));
                    missing.extend(lacking.map(|name| format!("{name} is missing")));
                }
                _ => {}
            }
        }
        missing.into_iter().for_each(|what| self.fail(what));
    }
}

/// All members by name, also those that are reached without that of a structure around them.
fn flatten(btf: &Btf, id: TypeId, all: &mut BTreeMap<String, Member>) {
    for member in btf.ty(id).composite().map_or(&[][..], |all| &all.members) {
        match btf.name(member.name) {
            "" => flatten(btf, member.ty, all),
            // Stands for an empty structure, so that an array without a size may be in a union.
            name if name.starts_with("__empty") => {}
            name => {
                all.insert(name.to_owned(), *member);
            }
        }
    }
}

/// Whether two types are the same to a program: kinds, sizes, signs, and the names of structures.
fn same(a: &Btf, x: TypeId, b: &Btf, y: TypeId, depth: u32) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return true };
    let (Ok(x), Ok(y)) = (a.resolve(x), b.resolve(y)) else { return false };
    match (a.ty(x), b.ty(y)) {
        (Type::Void, Type::Void) => true,
        (Type::Int(i), Type::Int(j)) => (i.size, i.signed, i.bool) == (j.size, j.signed, j.bool),
        (Type::Ptr(p), Type::Ptr(q)) => same(a, *p, b, *q, depth),
        (Type::Array(p), Type::Array(q)) => {
            p.len == q.len && same(a, p.element, b, q.element, depth)
        }
        (Type::Struct(p), Type::Struct(q)) | (Type::Union(p), Type::Union(q)) => {
            a.name(p.name) == b.name(q.name)
                && (!a.name(p.name).is_empty()
                    || p.members.len() == q.members.len()
                        && p.members.iter().zip(&q.members).all(|(m, n)| {
                            a.name(m.name) == b.name(n.name) && same(a, m.ty, b, n.ty, depth)
                        }))
        }
        (Type::Enum(p), Type::Enum(q)) => (a.name(p.name), p.size) == (b.name(q.name), q.size),
        (Type::FuncProto(p), Type::FuncProto(q)) => {
            p.params.len() == q.params.len()
                && same(a, p.result, b, q.result, depth)
                && p.params.iter().zip(&q.params).all(|(m, n)| same(a, m.ty, b, n.ty, depth))
        }
        _ => false,
    }
}
