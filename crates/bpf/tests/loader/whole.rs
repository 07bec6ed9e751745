//! The sample, from end to end.

use scxlab_bpf::Insn;
use scxlab_bpf::btf::{Btf, Type};
use scxlab_bpf::image::{Image, Line, MapType, Poison};
use scxlab_bpf::insn::pseudo;
use scxlab_bpf::object::{Error, Kernel, Object, Target, Value, decode, load, version_code};

use crate::elf::{GLOBAL, WEAK};
use crate::sample::{kernel, scheduler};

fn image() -> Image {
    load(&scheduler().write(), &kernel()).expect("it loads")
}

fn function<'a>(image: &'a Image, name: &str) -> &'a [Insn] {
    let found = image.functions.iter().find(|function| function.name == name).expect(name);
    &image.insns[found.start..found.start + found.len]
}

#[test]
fn programs_are_placed_once_and_in_the_files_order() {
    let image = image();
    let names: Vec<_> = image.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["helper", "callback", "sample_enqueue", "sample_init", "on_demand"]);
    let program = |program: &scxlab_bpf::image::Program| {
        let name = image.functions[program.function].name.clone();
        (name, program.section.clone(), program.sleepable)
    };
    let programs: Vec<_> = image.programs.iter().map(program).collect();
    let is =
        |name: &str, section: &str, sleepable| (name.to_owned(), section.to_owned(), sleepable);
    assert_eq!(
        programs,
        [
            is("sample_enqueue", "struct_ops/enqueue", false),
            is("sample_init", "struct_ops.s/init", true),
            is("on_demand", "syscall", true),
        ]
    );
    assert_eq!(image.notes, ["program optional (tp_btf/sched_switch) is not loaded"]);
    assert_eq!(image.license, "GPL");
}

#[test]
fn it_does_not_matter_where_the_bytes_are() {
    let bytes = scheduler().write();
    let known = image();
    for shift in 1..8 {
        let mut shifted = vec![0; shift];
        shifted.extend(&bytes);
        let image = load(&shifted[shift..], &kernel()).expect("it loads");
        assert_eq!(image.insns, known.insns);
    }
}

#[test]
fn references_become_places_in_the_image() {
    let image = image();
    let code = function(&image, "sample_enqueue");
    let start = image.functions[2].start as i32;
    let map = |name: &str| image.maps.iter().position(|map| map.name == name).expect(name) as i32;
    // `pid` is behind `flags` there, and `slice` behind 8 bytes of the entity at 32.
    assert_eq!((code[0].off, code[1].off, code[2].imm), (4, 40, 0));
    assert_eq!((code[3].src, code[3].imm), (pseudo::CALL, -(start + 4)), "helper is first");
    let wide = |at: usize| (code[at].src, code[at].imm, code[at + 1].imm);
    assert_eq!(wide(4), (pseudo::MAP, map("slots"), 0));
    assert_eq!(wide(6), (pseudo::MAP_VALUE, map(".rodata"), 0));
    assert_eq!(wide(8), (pseudo::MAP_VALUE, map(".bss"), 0));
    // Variables are at the end of the four pages, from Linux 7.0 on.
    assert_eq!(wide(10), (pseudo::MAP_VALUE, map("arena"), 3 * 4096));
    assert_eq!(wide(12), (pseudo::FUNC, 2 - (start + 12) - 1, 0));
    assert_eq!(wide(14), (pseudo::KSYM, 0, 0));
    assert_eq!(wide(16), (0, 0, 0), "no such variable");
    // By size, then by name: CONFIG_HZ, LINUX_KERNEL_VERSION, then CONFIG_SMP.
    assert_eq!(wide(18), (pseudo::MAP_VALUE, map(".kconfig"), 0));
    assert_eq!(wide(20), (pseudo::MAP_VALUE, map(".kconfig"), 4));
    assert_eq!(wide(22), (pseudo::KSYM, 1, 0), "the function is there");
    assert_eq!(wide(24), (0, 0, 0), "the function is not there");
    assert_eq!((code[26].src, code[26].imm), (pseudo::KFUNC, 0));
    assert_eq!((code[27].src, code[27].imm), (pseudo::KFUNC, 1));
    assert_eq!(code[28].src, pseudo::HELPER);
    assert!(code[28].imm >= Poison::KFUNC);

    let names = |symbol: &str| image.kfuncs.iter().find(|kfunc| kfunc.symbol == symbol).cloned();
    assert!(!names("scx_bpf_create_dsq").expect("it is called").weak);
    let now = names("scx_bpf_now___new").expect("it is called");
    assert_eq!((now.name.as_str(), now.weak), ("scx_bpf_now", true));
    assert_eq!(image.kfuncs.len(), 2);
    let ksyms: Vec<_> = image.ksyms.iter().map(|k| (k.name.as_str(), k.function)).collect();
    assert_eq!(ksyms, [("runqueues", false), ("scx_bpf_now", true)]);
}

#[test]
fn poison_says_what_is_missing() {
    let image = image();
    let init = image.functions[3].start;
    let code = function(&image, "sample_init");
    assert_eq!(code[0], Insn { code: 0x85, imm: 0xbad_2310, ..Insn::default() });
    let about: Vec<_> = image.poison.iter().map(|poison| (poison.insn, &*poison.text)).collect();
    assert_eq!(about[0].0, image.functions[2].start + 28);
    assert_eq!(about[0].1, "kfunc 'scx_bpf_absent' is referenced but wasn't resolved");
    assert_eq!(about[1].0, init);
    let text = about[1].1;
    let start = "failed to resolve CO-RE relocation <byte_off> [";
    let end = "] struct task_struct.gone (0:2 @ offset 24)";
    assert!(text.starts_with(start) && text.ends_with(end), "{text}");
}

#[test]
fn maps_are_as_declared() {
    let image = image();
    let map = |name: &str| image.maps.iter().find(|map| map.name == name).expect(name);
    let slots = map("slots");
    assert_eq!((slots.map_type, slots.key_size, slots.value_size), (MapType::ARRAY, 4, 8));
    assert_eq!(image.btf.describe(slots.value_type), "unsigned long long");
    let outer = map("outer");
    assert_eq!(outer.map_type, MapType::ARRAY_OF_MAPS);
    assert_eq!(outer.entries, [None, Some(0)]);
    let inner = &image.maps[outer.inner.expect("it holds maps")];
    assert_eq!((inner.name.as_str(), inner.max_entries, inner.value_size), ("outer.inner", 10, 8));
    let arena = map("arena");
    assert_eq!((arena.initial_at, &arena.initial[..]), (3 * 4096, &7_u64.to_le_bytes()[..]));
    let rodata = map(".rodata");
    assert!(rodata.read_only);
    assert_eq!((rodata.value_size, rodata.flags), (45, 1 << 7 | 1 << 10));
    assert_eq!((map(".bss").value_size, map(".bss").initial.len()), (12, 0));
    let config = map(".kconfig");
    let mut known = 250_u32.to_le_bytes().to_vec();
    known.extend(version_code(7, 2, 0).to_le_bytes());
    known.push(1);
    assert_eq!(config.initial, known);
}

#[test]
fn older_kernels_have_an_arenas_variables_first() {
    let mut kernel = kernel();
    kernel.version = version_code(6, 19, 0);
    let image = load(&scheduler().write(), &kernel).expect("it loads");
    assert_eq!(function(&image, "sample_enqueue")[11].imm, 0);
    assert!(image.maps.iter().all(|map| map.initial_at == 0));
}

#[test]
fn operations_are_known_by_name() {
    let image = image();
    let [ops] = &image.struct_ops[..] else { panic!("{:?}", image.struct_ops) };
    assert_eq!((ops.name.as_str(), ops.type_name.as_str()), ("sample_ops", "sched_ext_ops"));
    assert!(ops.link);
    assert_eq!(ops.operation("enqueue"), Some(0));
    assert_eq!(ops.operation("init"), Some(1));
    assert_eq!(ops.operation("flags"), None);
    assert_eq!((ops.number("flags"), ops.number("timeout_ms")), (Some(3), Some(5000)));
    assert_eq!(ops.text("name").as_deref(), Some("sample"));
    assert_eq!(ops.number("dispatch"), None);
}

#[test]
fn lines_are_those_of_the_instructions() {
    let image = image();
    let start = image.functions[2].start;
    let line = |insn: usize, line: u32| Line {
        insn,
        file: "sample.bpf.c".to_owned(),
        line,
        column: 1,
        text: "\tp->pid;".to_owned(),
    };
    assert_eq!(image.lines, [line(start, 10), line(start + 3, 11)]);
}

#[test]
fn variables_are_set_and_read_back() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    assert_eq!(object.fill_enumerators(&kernel()).expect("values"), 1);
    for (path, value) in [
        ("batch", "0x10"),
        ("key", "pid"),
        ("limits.nice", "-2"),
        ("limits.table[2]", "9"),
        ("on", "yes"),
        ("tag", "\"xy\""),
        ("tag[3]", "90"),
        ("count", "18446744073709551615"),
        ("nice", "-2147483648"),
        ("shared", "5"),
        ("sample_ops.timeout_ms", "1000"),
        ("sample_ops.name", "renamed"),
    ] {
        object.set(path, value).expect(path);
    }
    assert_eq!(object.number("batch"), Some(16));
    assert_eq!(object.number("limits.nice"), Some(-2));
    let image = object.load(&kernel()).expect("it loads");
    let read = |name: &str| {
        let global = image.globals.iter().find(|global| global.name == name).expect(name);
        let map = &image.maps[global.map];
        let start = (global.offset - map.initial_at) as usize;
        let mut bytes = map.initial.get(start..).unwrap_or_default().to_vec();
        bytes.resize(global.size as usize, 0);
        decode(&image.btf, global.ty, &bytes).expect(name)
    };
    assert_eq!(read("batch"), Value::Number(16));
    assert_eq!(read("key"), Value::Name("KEY_PID".to_owned(), 1));
    assert_eq!(read("on"), Value::Bool(true));
    assert_eq!(read("tag"), Value::Text("xy".to_owned()));
    assert_eq!(read("count"), Value::Number(u64::MAX.into()));
    assert_eq!(read("nice"), Value::Number(i32::MIN.into()));
    assert_eq!(read("shared"), Value::Number(5));
    assert_eq!(read("__SCX_SLICE_DFL"), Value::Number(20_000_000));
    let table = Value::List([0, 0, 9].map(Value::Number).into());
    let limits = [("most", Value::Number(0)), ("nice", Value::Number(-2)), ("table", table)];
    let limits = limits.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(read("limits"), Value::Members(limits.into()));
    assert_eq!(image.struct_ops[0].number("timeout_ms"), Some(1000));
    assert_eq!(image.struct_ops[0].text("name").as_deref(), Some("renamed"));
}

#[test]
fn a_list_sets_the_first_elements_of_an_array() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    let mut table = |list| {
        object.set("limits.table", list).expect(list);
        [0, 1, 2].map(|at| object.number(&format!("limits.table[{at}]")).expect("a number"))
    };
    assert_eq!(table("[7, 8,0x9]"), [7, 8, 9]);
    assert_eq!(table("[1]"), [1, 8, 9]);
    assert_eq!(table("[]"), [1, 8, 9]);
}

#[test]
fn values_of_maps_are_set_by_their_keys() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    for (path, value) in [("slots[3]", "7"), ("slots[0]", "1"), ("slots[3]", "0x09")] {
        object.set(path, value).expect(path);
    }
    for (path, value, says) in [
        ("slots", "1", "give a key"),
        ("slots[x]", "1", "`x` is not a number"),
        ("slots[10]", "1", "it has 10 values"),
        ("slots[1].x", "1", "what is before it has no members"),
        ("slots[1", "1", "give a key"),
        ("slots[1]", "one", "`one` is not a number"),
        ("outer[0]", "1", "only what arrays and hashes have can be set"),
        ("arena[0]", "1", "only what arrays and hashes have can be set"),
    ] {
        let message = object.set(path, value).expect_err(path).to_string();
        assert!(message.contains(says), "{path}={value}: {message}");
    }
    let image = object.load(&kernel()).expect("it loads");
    let slots = image.maps.iter().find(|map| map.name == "slots").expect("it is there");
    let element = |key: u32, value: u64| (key.to_le_bytes().to_vec(), value.to_le_bytes().to_vec());
    assert_eq!(slots.elements, [element(3, 9), element(0, 1)]);
}

#[test]
fn what_cannot_be_set_is_told_with_what_there_is() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    for (path, value, says) in [
        (
            "colour",
            "1",
            "no variable `colour`; there are: batch, key, limits, on, tag, dump, count, nice",
        ),
        ("limits.least", "1", "there is no member `least`"),
        ("batch.most", "1", "`.most`: what is before it has no members"),
        ("batch[0]", "1", "`[0]`: what is before it is no array"),
        ("limits.table[3]", "1", "`[3]`: it has 3 elements"),
        ("limits.table[x]", "1", "`[x]` is no index"),
        ("limits.table[1", "1", "neither .member nor [index]"),
        ("limits", "1", "only numbers"),
        ("limits.table", "1", "only numbers"),
        ("limits.table", "[1,2,3,4]", "the list has 4 elements, the array 3"),
        ("limits.table", "[1,x]", "`x` is not a number"),
        ("limits.table", "[1,]", "`` is not a number"),
        ("batch", "[1]", "`[1]` is not a number"),
        ("batch", "-1", "not a number from 0 to 4294967295"),
        ("batch", "4294967296", "not a number from 0 to 4294967295"),
        ("nice", "2147483648", "not a number from -2147483648 to 2147483647"),
        ("on", "2", "not true, false"),
        ("key", "gid", "`gid` is none of KEY_TID, KEY_PID"),
        ("tag", "12345678", "`12345678` has 8 bytes; there is room for 7"),
    ] {
        let message = object.set(path, value).expect_err(path).to_string();
        assert!(message.contains(says), "{path}={value}: {message}");
    }
}

#[test]
fn operations_can_be_cleared_and_sections_resized() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    assert_eq!(object.clear_operation("sample_ops", "init"), Ok(true));
    assert_eq!(object.clear_operation("sample_ops", "init"), Ok(false));
    assert!(object.clear_operation("sample_ops", "none").is_err());
    assert!(object.clear_operation("others", "init").is_err());
    object.resize(".bss", 4000).expect("it is there");
    assert!(matches!(object.resize(".bss", 1 << 30), Err(Error::Limit { .. })));
    assert!(object.resize(".data", 8).is_err());
    object.resize(".data.dump", 100).expect("it is there");
    object.set_autoload("optional", true).expect("it is there");
    let image = object.load(&kernel()).expect("it loads");
    assert_eq!(image.struct_ops[0].operation("init"), None);
    assert!(image.functions.iter().all(|function| function.name != "sample_init"));
    assert!(image.functions.iter().any(|function| function.name == "optional"));
    let bss = image.maps.iter().find(|map| map.name == ".bss").expect("it is there");
    assert_eq!(bss.value_size, 4000);
    let size = |name: &str| image.globals.iter().find(|known| known.name == name).expect(name).size;
    assert_eq!((size("dump"), size("nice")), (100, 4));
}

#[test]
fn a_program_that_is_left_out_is_no_operation_either() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    object.leave_out("sample_init").expect("it is there");
    object.leave_out("on_demand").expect("it is there");
    assert!(object.leave_out("sample_exit").is_err());
    assert!(object.leave_out("helper").is_err(), "it is no program");
    let image = object.load(&kernel()).expect("it loads");
    assert_eq!(image.struct_ops[0].operation("init"), None);
    let programs = image.programs.iter().map(|p| image.functions[p.function].name.as_str());
    assert_eq!(programs.collect::<Vec<_>>(), ["sample_enqueue"]);
    assert_eq!(image.notes, ["program optional (tp_btf/sched_switch) is not loaded"]);
}

/// The sample's kernel, which never switches tasks.
struct Still(Kernel);

impl Target for Still {
    fn btf(&self) -> &Btf {
        self.0.btf()
    }

    fn kernel_version(&self) -> u32 {
        self.0.kernel_version()
    }

    fn kconfig(&self, name: &str) -> Option<String> {
        self.0.kconfig(name)
    }

    fn never_runs(&self, section: &str) -> Option<&'static str> {
        (section == "tp_btf/sched_switch").then_some("it is still")
    }
}

#[test]
fn what_never_runs_is_left_out_with_the_reason() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    object.set_autoload("optional", true).expect("it is there");
    let image = object.load(&Still(kernel())).expect("it loads");
    assert!(image.functions.iter().all(|function| function.name != "optional"));
    let note = "program optional (tp_btf/sched_switch) is left out: it is still";
    assert_eq!(image.notes, [note]);
}

#[test]
fn an_array_has_as_many_elements_as_it_was_given() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    let message = |done: Result<(), Error>| done.expect_err("it is too far").to_string();
    assert_eq!(message(object.set("dump[8]", "1")), "`[8]`: it has 8 elements");
    object.set_len("dump", 20).expect("it is the last one");
    object.set("dump[19]", "7").expect("it is there now");
    assert_eq!(message(object.set("dump[20]", "1")), "`[20]`: it has 20 elements");
    object.set_len("dump", 3).expect("it is the last one");
    assert_eq!(message(object.set("dump[3]", "1")), "`[3]`: it has 3 elements");
    object.set("limits.table[2]", "5").expect("it is there");
    assert_eq!(message(object.set("limits.table[3]", "5")), "`[3]`: it has 3 elements");
}

/// As `map_btf_datasec_resize()` has it in libbpf.
#[test]
fn an_array_of_another_length_has_another_type() {
    let resized = |section: &str, bytes| {
        let mut object = Object::parse(&scheduler().write()).expect("it is one");
        object.resize(section, bytes).expect("it is there");
        if section == ".data.dump" {
            object.set("dump", "as many letters").expect("there is room");
        }
        let image = object.load(&kernel()).expect("it loads");
        let map = image.maps.iter().find(|map| map.name == section).expect("it is there").clone();
        (image, map)
    };
    let (image, map) = resized(".data.dump", 20);
    let global = image.globals.iter().find(|global| global.name == "dump").expect("it is there");
    assert!(matches!(image.btf.ty(global.ty), Type::Array(array) if array.len == 20));
    let Type::DataSec(section) = image.btf.ty(map.value_type) else { panic!("no section") };
    assert_eq!((section.size, section.vars[0].size), (20, 20));
    let var = image.btf.ty(section.vars[0].ty);
    assert!(matches!(*var, Type::Var { ty, .. } if ty == global.ty), "{var:?}");
    // Its last variable is no array.
    assert_eq!(resized(".bss", 4000).1.value_type, 0);
}

#[test]
fn maps_of_maps_are_filled() {
    let mut object = Object::parse(&scheduler().write()).expect("it is one");
    object.fill_map("outer", 1).expect("there is room");
    object.fill_map("outer", 2).expect("there is room");
    assert_eq!(
        object.fill_map("outer", 3).expect_err("there are 2").to_string(),
        "map outer: 3 maps in 2 entries"
    );
    assert!(object.fill_map("slots", 1).is_err() && object.fill_map("none", 1).is_err());
    let image = object.load(&kernel()).expect("it loads");
    let outer = image.maps.iter().find(|map| map.name == "outer").expect("it is there");
    let [Some(first), Some(second)] = outer.entries[..] else { panic!("{:?}", outer.entries) };
    let first = &image.maps[first];
    assert_eq!((first.name.as_str(), first.max_entries), ("outer.inner[0]", 10));
    // What the object lists stays.
    assert_eq!(image.maps[second].name, "slots");
}

#[test]
fn what_a_kernel_does_not_put_into_a_map_of_maps() {
    let with = |name: &str, len: u32| {
        let mut object = Object::parse(&scheduler().write()).expect("it is one");
        object.set_len(name, len).expect("it is there");
        object.load(&kernel()).map(|_| ()).map_err(|err| err.to_string())
    };
    assert_eq!(with("outer", 3), Ok(()));
    assert_eq!(with("outer", 1), Err("map outer: 2 values in 1 entries (E2BIG)".to_owned()));
    let differs = "map outer: value 1: map slots has another number of entries (EINVAL)";
    assert_eq!(with("slots", 11), Err(differs.to_owned()));
}

#[test]
fn all_that_a_kernel_lacks_is_told_at_once() {
    let mut file = scheduler();
    for symbol in &mut file.symbols {
        symbol.bind = if symbol.bind == WEAK { GLOBAL } else { symbol.bind };
    }
    let message = load(&file.write(), &kernel()).expect_err("it lacks two").to_string();
    assert_eq!(
        message,
        "extern 'no_such_variable' (strong): not resolved (used by sample_enqueue)\n\
         extern (func ksym) 'scx_bpf_absent': not found in kernel or module BTFs \
         (used by sample_enqueue)"
    );
}
