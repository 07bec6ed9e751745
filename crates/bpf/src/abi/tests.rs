use std::collections::BTreeSet;

use super::*;

fn abi(version: Version) -> Abi {
    Abi::new(version).expect("the declarations make sense")
}

#[test]
fn every_version_is_declared() {
    for version in Version::ALL {
        let abi = abi(version);
        assert_eq!(Btf::parse(&abi.btf().to_bytes()).expect("it is BTF"), *abi.btf);
        assert_eq!(abi.kernel_version(), version.code());
    }
}

/// Every field of a structure that has no further fields, with its path.
fn leaves(abi: &Abi, structure: &str) -> Vec<FieldAt> {
    let size = abi.size_of(structure).expect(structure);
    let mut all: Vec<FieldAt> = Vec::new();
    // Arrays without a length are behind the end.
    for offset in 0..=size + 8 {
        if let Some(field) = abi.field_at(structure, offset)
            && all.last().is_none_or(|last| last.path != field.path)
        {
            assert_eq!(field.offset, 0, "{structure}.{}", field.path);
            all.push(field);
        }
    }
    all
}

#[test]
fn every_field_has_a_source_and_every_source_a_field() {
    let mut used = BTreeSet::new();
    for version in Version::ALL {
        let abi = abi(version);
        for object in source::OBJECTS {
            for field in leaves(&abi, object) {
                assert!(field.source.is_some(), "{version}: {object}.{}", field.path);
                used.insert((field.structure, field.member));
            }
        }
    }
    for (structure, member, _) in source::SOURCES {
        let there = used.contains(&((*structure).to_owned(), (*member).to_owned()));
        assert!(there, "{structure}.{member}");
    }
}

#[test]
fn a_byte_names_its_field() {
    let abi = abi(Version::V7_2);
    let at = |path: &str, more| {
        abi.field_at("task_struct", abi.offset_of("task_struct", path).expect(path) + more)
            .expect(path)
    };
    let field = at("scx.slice", 3);
    assert_eq!((field.path.as_str(), field.offset, field.size), ("scx.slice", 3, 8));
    assert_eq!((field.structure.as_str(), field.member.as_str()), ("sched_ext_entity", "slice"));
    assert_eq!(field.source, Some(Source::Scx(source::Scx::Slice)));
    assert!(field.writable && at("scx.disallow", 0).writable && !at("scx.tid", 0).writable);
    // A mask is one value, and so is a name.
    let field = at("cpus_mask", 9);
    assert_eq!((field.path.as_str(), field.offset, field.size), ("cpus_mask", 9, 1024));
    let field = at("comm", 15);
    assert_eq!((field.path.as_str(), field.offset, field.size), ("comm", 15, 16));
    assert_eq!(at("thread_info.cpu", 0).source, Some(Source::Task(source::Task::Cpu)));
    assert_eq!(at("scx.dsq_list.node", 0).source, Some(Source::Private));
    let size = abi.size_of("task_struct").expect("it is there");
    assert_eq!(abi.field_at("task_struct", size), None);
    assert_eq!(abi.field_at("task_struct", u32::MAX), None);
    assert_eq!(abi.field_at("no_such_struct", 0), None);
    // Arrays without a length go on behind their structure.
    let start = abi.offset_of("pid", "numbers").expect("it is there");
    assert_eq!(abi.field_at("pid", start).expect("nr").path, "numbers.nr");
    assert_eq!(abi.field_at("pid", start + 24).expect("ns").path, "numbers.ns");
    let start = abi.offset_of("cgroup", "ancestors").expect("it is there");
    let field = abi.field_at("cgroup", start + 16).expect("ancestors");
    assert_eq!((field.path.as_str(), field.offset, field.size), ("ancestors", 16, 0));
}

#[test]
fn versions_differ_where_kernels_do() {
    let [old, new, newest] = [Version::V7_1, Version::V7_2, Version::V7_3].map(abi);
    assert_eq!(old.offset_of("task_struct", "scx.tid"), None);
    assert!(new.offset_of("task_struct", "scx.tid").is_some());
    assert!(!old.has_kfunc("scx_bpf_tid_to_task") && new.has_kfunc("scx_bpf_tid_to_task"));
    assert!(new.has_kfunc("scx_bpf_cpu_rq") && !newest.has_kfunc("scx_bpf_cpu_rq"));
    assert_eq!(new.size_of("task_struct___flavour"), None);
    assert_eq!(abi(Version::V6_18).number("SCX_ENQ_HEAD"), Some(0x10));
    assert_eq!(new.number("SCX_ENQ_HEAD"), Some(0x10000));
    assert_eq!(new.number("SCX_SLICE_INF"), Some(u64::MAX.into()));
    assert_eq!(new.number("SCX_TASK_CURSOR"), Some(i32::MIN.into()));
    assert_eq!(new.number("SCX_CAP_ENQ"), None);
    assert!(!old.has_symbol("scx_tid_hash") && new.has_symbol("scx_tid_hash"));
    assert!(new.symbol("scx_tid_hash").is_some() && new.has_symbol("runqueues"));
    assert_eq!(new.btf().find("scx_tid_hash", Kind::Var), None);
    assert_eq!(old.kconfig("CONFIG_EXT_SUB_SCHED").as_deref(), Some("y"));
    assert_eq!(abi(Version::V7_0).kconfig("CONFIG_EXT_SUB_SCHED"), None);
    assert_eq!(new.kconfig("CONFIG_HZ").as_deref(), Some("250"));
    let of = |name: &str| new.kconfig(&format!("CONFIG_{name}"));
    assert!(["X86", "MMU", "BPF_EVENTS", "NUMA", "MEMCG"].iter().all(|&name| of(name).is_some()));
    // Kernels differ in these.
    assert!(["SCHED_MC", "SCHED_CORE", "PREEMPT_RT"].iter().all(|&name| of(name).is_none()));
    let fast = new.clone().with_hz(1000);
    assert_eq!(fast.kconfig("CONFIG_HZ").as_deref(), Some("1000"));
    assert_eq!(fast.kconfig("CONFIG_HZ_1000").as_deref(), Some("y"));
    assert_eq!(fast.kconfig("CONFIG_HZ_250"), None);
    assert_eq!(fast.number("SCX_WATCHDOG_MAX_TIMEOUT"), Some(30_000));
    assert_eq!(new.number("SCX_WATCHDOG_MAX_TIMEOUT"), Some(7500));
    assert_eq!(new.clone().with_hz(250).btf(), new.btf());
}

#[test]
fn kfuncs_say_what_the_verifier_sees_to() {
    let abi = abi(Version::V7_2);
    let kfunc = |name: &str| abi.kfunc(name).expect(name);
    let plain = Kfunc::default();
    assert_eq!(kfunc("scx_bpf_kick_cpu"), plain);
    assert_eq!(kfunc("scx_bpf_create_dsq"), Kfunc { sleepable: true, ..plain });
    assert_eq!(kfunc("bpf_task_from_pid"), Kfunc { acquire: true, null: true, ..plain });
    assert_eq!(kfunc("bpf_task_release"), Kfunc { release: true, ..plain });
    assert_eq!(kfunc("scx_bpf_tid_to_task"), Kfunc { null: true, rcu: true, ..plain });
    // What fentry programs are put on is no kfunc, and is there all the same.
    assert!(!abi.has_kfunc("do_task_dead"));
    assert!(abi.btf().find("do_task_dead", Kind::Func).is_some());
    // 73 lists of kfuncs have 104 entries in Linux 7.2: some are in several.
    let of_scx = |name: &&str| name.contains("scx_bpf_") || name.contains("_scx_");
    assert_eq!(abi.kfuncs().map(|(name, _)| name).filter(of_scx).count(), 73);
}

#[test]
fn types_that_programs_keep_have_the_kernels_size() {
    let abi = abi(Version::V7_2);
    for (structure, size) in [
        ("bpf_timer", 16),
        ("bpf_spin_lock", 4),
        ("bpf_res_spin_lock", 4),
        ("bpf_list_head", 16),
        ("bpf_list_node", 24),
        ("bpf_rb_root", 16),
        ("bpf_rb_node", 32),
        ("bpf_refcount", 4),
        ("bpf_dynptr", 16),
        ("bpf_iter_scx_dsq", 48),
        ("bpf_iter_num", 8),
        ("bpf_iter_css", 24),
        ("cpumask", 1024),
        ("scx_cmask", 16),
        ("mm_struct", 0),
    ] {
        assert_eq!(abi.size_of(structure), Some(size), "{structure}");
    }
}

#[test]
fn mistakes_are_found_with_their_line() {
    for (text, says) in [
        ("struct a { int x; }", "x.h:1: it ends in the middle of a declaration"),
        ("struct a {\n\tint x\n};", "x.h:3: `;` is expected, not Sign('}')"),
        ("\nint x;", "x.h:2: `x` is no function, and has neither @var"),
        ("enum e { A = 1 };", "x.h:1: `,` is expected, not Sign('}')"),
        ("enum e : u64 { A = 1, };", ""),
        ("enum e { A = 4294967296, };", "x.h:1: A is out of range"),
        ("enum e : int { A = 1, };", "x.h:1: an enumeration is of u64 or of what C takes"),
        ("@since 5 struct a { };", "x.h:1: a version is expected after @since"),
        ("@since 5.4 struct a { };", "x.h:1: no kernel ABI `5.4`"),
        ("@acquire struct a { };", "x.h:1: @acquire is no mark for this"),
        ("@wrong void f(void);", "x.h:1: no mark is called @wrong"),
        ("void f(struct a *a);", "x.h:1: struct a is not declared"),
        ("void f(missing a);", "x.h:1: missing is not declared"),
        ("struct a { struct b b; };\nstruct b { int x; };", "x.h:1: b: b is not declared before"),
        ("struct a { };\nstruct a { };", "x.h:2: a is declared twice"),
        ("void f(int x, void);", "x.h:1: a parameter is `void`"),
        ("unsigned void f(void);", "x.h:1: `unsigned void` is no type"),
        ("long bool f(void);", "x.h:1: `;` is expected, not Word("),
        ("struct a { int *; };", "x.h:1: a member has no name"),
        ("/* no end", "x.h:1: a comment does not end"),
        ("enum e { A = 0xg, };", "x.h:1: `0xg` is no number"),
        ("struct a { int x[-1]; };", "x.h:1: -1 is out of range"),
        ("struct a { int x : 33; };", "kernel:0: "),
        (
            "@since 7.3 struct a { };\n@until 7.2 struct b { struct a *p; };",
            "x.h:2: struct a is not",
        ),
        ("@", "x.h:1: a type is missing"),
        ("é", "x.h:1: "),
    ] {
        let built = parse::parse("x.h", text).and_then(|items| build::build(&items, Version::V7_2));
        match built {
            Ok(_) => assert_eq!(says, "", "{text}"),
            Err(wrong) => {
                let wrong = wrong.to_string();
                assert!(!says.is_empty() && wrong.starts_with(says), "{text}: {wrong}");
            }
        }
    }
}

#[test]
fn declarators_are_read_inside_out() {
    let text = "struct s { int *a[3]; int (*b)[3]; int (*f)(int x, char *y); const char *const c;
        int d[2][3]; unsigned long long e; struct { int in; union { int u; char v; }; };
        @until 7.1 int gone; unsigned int bits : 3; volatile long g; };";
    let items = parse::parse("x.h", text).expect("it is right");
    let btf = build::build(&items, Version::V7_2).map(|built| built.btf).expect("it is right");
    let id = btf.find("s", Kind::Struct).expect("it is there");
    let members = &btf.ty(id).composite().expect("a structure").members;
    let member = |name: &str| {
        let found = members.iter().find(|member| btf.name(member.name) == name);
        found.map(|member| (member.bit_offset / 8, member.bits, btf.size_of(member.ty)))
    };
    assert_eq!(member("a"), Some((0, 0, Ok(24))));
    assert_eq!(member("b"), Some((24, 0, Ok(8))));
    assert_eq!(member("d"), Some((48, 0, Ok(24))));
    assert_eq!(member("e"), Some((72, 0, Ok(8))));
    assert_eq!(member("gone"), None);
    assert_eq!(member("bits"), Some((88, 3, Ok(4))));
    let inner = members.iter().find(|m| btf.name(m.name).is_empty()).expect("one has no name");
    assert_eq!(btf.size_of(inner.ty), Ok(8));
    let kind = |name: &str| {
        let member = members.iter().find(|member| btf.name(member.name) == name).expect(name);
        let mut kinds = vec![btf.ty(member.ty).kind()];
        let mut at = member.ty;
        while let Type::Ptr(to) | Type::Const(to) | Type::Volatile(to) = *btf.ty(at) {
            at = to;
            kinds.push(btf.ty(at).kind());
        }
        kinds
    };
    assert_eq!(kind("a"), [Kind::Array]);
    assert_eq!(kind("b"), [Kind::Ptr, Kind::Array]);
    assert_eq!(kind("f"), [Kind::Ptr, Kind::FuncProto]);
    assert_eq!(kind("c"), [Kind::Const, Kind::Ptr, Kind::Const, Kind::Int]);
    assert_eq!(kind("g"), [Kind::Volatile, Kind::Int]);
}
