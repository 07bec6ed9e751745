//! What an object expects of a kernel: its configuration, its variables, programs in arrays.

use scxlab_bpf::btf::{Btf, Builder, Field, TypeId, linkage};
use scxlab_bpf::object::{Error, Kernel, Target, load};

use crate::elf::{self, EXIT, File, GLOBAL, LOCAL, WEAK, call, mov, wide};
use crate::sample::{R_ABS, R_CALL, R_LOAD, Vars, kernel, number};

/// The bytes of one value of the configuration.
fn value(
    name: &str,
    bind: u8,
    ty: impl Fn(&mut Builder) -> TypeId,
    value: Option<&str>,
) -> Result<Vec<u8>, String> {
    let mut file = File::new();
    let ty = ty(&mut file.btf);
    let var = file.btf.var(name, ty, linkage::EXTERN);
    file.btf.section(".kconfig", 0, &[(var, 0, 0)]);
    file.external(name, bind);
    file.function("syscall", "program", &[mov(0, 0), EXIT]);
    let kernel = Kernel {
        config: value.map(|value| (name.to_owned(), value.to_owned())).into_iter().collect(),
        ..kernel()
    };
    let image = load(&file.write(), &kernel).map_err(|err| err.to_string())?;
    let map = image.maps.iter().find(|map| map.name == ".kconfig").expect("it is a map");
    assert!(map.read_only);
    Ok(map.initial.clone())
}

#[test]
fn configuration_has_the_type_that_is_asked_for() {
    let int = |b: &mut Builder| b.int("int", 4, true);
    let short = |b: &mut Builder| b.int("unsigned short", 2, false);
    let bool = |b: &mut Builder| b.bool();
    let char = |b: &mut Builder| b.char();
    let text = |b: &mut Builder| {
        let char = b.char();
        b.array(char, 4)
    };
    let three = |b: &mut Builder| {
        b.enumeration("libbpf_tristate", 4, false, &[("TRI_NO", 0), ("TRI_YES", 1)])
    };
    let of =
        |ty: &dyn Fn(&mut Builder) -> TypeId, text: &str| value("CONFIG_X", GLOBAL, ty, Some(text));
    assert_eq!(of(&int, "250"), Ok(250_i32.to_le_bytes().to_vec()));
    assert_eq!(of(&int, "-1"), Ok(vec![255; 4]));
    assert_eq!(of(&int, "0x7fffffff"), Ok(i32::MAX.to_le_bytes().to_vec()));
    assert_eq!(of(&short, "65535"), Ok(vec![255; 2]));
    assert_eq!(of(&bool, "y"), Ok(vec![1]));
    assert_eq!(of(&bool, "n"), Ok(vec![0]));
    assert_eq!(of(&char, "m"), Ok(vec![b'm']));
    assert_eq!(of(&three, "m"), Ok(vec![2, 0, 0, 0]));
    assert_eq!(of(&text, "\"ab\""), Ok(b"ab\0\0".to_vec()));
    assert_eq!(of(&text, "\"abcdef\""), Ok(b"abc\0".to_vec()));
    for (ty, text, says) in [
        (&int as &dyn Fn(&mut Builder) -> TypeId, "2147483648", "doesn't fit in 4 bytes"),
        (&short, "65536", "doesn't fit in 2 bytes"),
        (&bool, "m", "implies tristate or char type"),
        (&bool, "2", "isn't boolean compatible"),
        (&int, "y", "implies bool, tristate, or char type"),
        (&int, "\"a\"", "implies char array type"),
        (&text, "\"a", "its end is missing"),
        (&three, "1", "implies integer, char, or boolean type"),
        (&int, "many", "neither y, n, m, a string nor a number"),
    ] {
        let message = of(ty, text).expect_err(says);
        let start = format!("extern (kcfg) 'CONFIG_X': value '{text}' ");
        assert!(message.starts_with(&start) && message.contains(says), "{message}");
    }
    let float = |b: &mut Builder| b.float("float", 4);
    let message = of(&float, "1").expect_err("no such type");
    assert_eq!(message, "symbol CONFIG_X: its type is none of a configuration's value");
}

#[test]
fn configuration_that_is_not_there() {
    let int = |b: &mut Builder| b.int("int", 4, true);
    assert_eq!(value("CONFIG_X", WEAK, int, None), Ok(vec![0; 4]));
    assert_eq!(value("LINUX_NEW", WEAK, int, None), Ok(vec![0; 4]));
    let message = value("CONFIG_X", GLOBAL, int, None);
    assert_eq!(message, Err("extern 'CONFIG_X' (strong): not resolved".to_owned()));
    for (name, bind) in [("LINUX_NEW", GLOBAL), ("OTHER", WEAK)] {
        let message = value(name, bind, int, None);
        let says = format!("extern (kcfg) '{name}': unrecognized virtual extern");
        assert_eq!(message, Err(says));
    }
    let has = value("LINUX_HAS_BPF_COOKIE", GLOBAL, |b| b.bool(), None);
    assert_eq!(has, Ok(vec![1]));
}

#[test]
fn variables_of_the_kernel_have_types() {
    let with = |name: &str, bind: u8, ty: &dyn Fn(&mut Builder) -> TypeId| {
        let mut file = File::new();
        let ty = ty(&mut file.btf);
        let var = file.btf.var(name, ty, linkage::EXTERN);
        file.btf.section(".ksyms", 0, &[(var, 0, 0)]);
        let [low, high] = wide(1, 0);
        file.function("syscall", "program", &[low, high, EXIT]);
        let symbol = file.external(name, bind);
        file.refer("syscall", 0, symbol, R_LOAD);
        let image = load(&file.write(), &kernel()).map_err(|err| err.to_string())?;
        Ok::<_, String>(image.ksyms.iter().map(|ksym| ksym.name.clone()).collect::<Vec<_>>())
    };
    let int = |b: &mut Builder| b.int("u32", 4, false);
    let pointer = |b: &mut Builder| b.ptr(0);
    let void = |b: &mut Builder| b.constant(0);
    assert_eq!(with("runqueues", GLOBAL, &int), Ok(vec!["runqueues".to_owned()]));
    assert_eq!(with("runqueues", GLOBAL, &void), Ok(vec!["runqueues".to_owned()]));
    assert_eq!(with("absent", WEAK, &int), Ok(Vec::new()));
    assert_eq!(with("absent", WEAK, &void), Ok(Vec::new()));
    let missing = "extern (var ksym) 'absent': not found in kernel BTF (used by program)";
    assert_eq!(with("absent", GLOBAL, &int), Err(missing.to_owned()));
    let missing = "extern 'absent' (strong): not resolved (used by program)";
    assert_eq!(with("absent", GLOBAL, &void), Err(missing.to_owned()));
    let message = with("runqueues", GLOBAL, &pointer).expect_err("another type");
    let says =
        "extern (var ksym) 'runqueues': incompatible types, expected [1] ptr , but kernel has";
    assert!(message.starts_with(says), "{message}");
}

/// A program, and a function of `.text` that calls a function which the kernel has not.
fn with_a_function(calls_it: bool) -> File {
    let mut file = File::new();
    let proto = file.btf.proto(0, &[]);
    let absent = file.btf.func_of("scx_bpf_absent", proto, linkage::EXTERN as u16);
    file.btf.section(".ksyms", 0, &[(absent, 0, 0)]);
    let symbol = file.external("scx_bpf_absent", GLOBAL);
    // Each calls the next one, by a relocation and without.
    file.function(".text", "second", &[call(1), EXIT, call(-1), EXIT]);
    let second = file.symbols.last_mut().expect("it is there");
    second.size = 16;
    let text = file.section(".text", elf::PROGBITS, 0);
    file.symbol("third", text, 16, 16, elf::FUNC, LOCAL);
    file.refer(".text", 16, symbol, R_CALL);
    let (first, start) = file.function(".text", "first", &[call(-5), EXIT]);
    assert_eq!(start, 32);
    file.function("?syscall", "left_out", &[call(-1), EXIT]);
    file.refer("?syscall", 0, first, R_CALL);
    let body: &[_] = if calls_it { &[call(-1), EXIT] } else { &[mov(0, 0), EXIT] };
    file.function("syscall", "program", body);
    if calls_it {
        file.refer("syscall", 0, first, R_CALL);
    }
    file
}

#[test]
fn functions_that_no_program_reaches_are_left_out() {
    let mut kernel = kernel();
    kernel.btf = {
        let mut b = Builder::new();
        b.func("scx_bpf_absent", 0, &[]);
        b.finish().expect("types")
    };
    let names = |calls_it| {
        let image = load(&with_a_function(calls_it).write(), &kernel).expect("it loads");
        let called = image.kfuncs.len();
        let names: Vec<_> = image.functions.into_iter().map(|function| function.name).collect();
        (names.join(" "), called)
    };
    assert_eq!(names(false), ("program".to_owned(), 0));
    assert_eq!(names(true), ("second third first program".to_owned(), 1));
}

#[test]
fn a_subprogram_may_have_several_names() {
    let with = |section: &str, size: u64| {
        let mut file = File::new();
        let proto = file.btf.proto(1, &[]);
        file.btf.func_of("second", proto, linkage::GLOBAL as u16);
        let (first, _) = file.function(section, "first", &[mov(0, 1), EXIT]);
        let number = file.section(section, elf::PROGBITS, 0);
        file.symbol("second", number, 0, size, elf::FUNC, GLOBAL);
        file.function("syscall", "program", &[call(-1), EXIT]);
        let start = file.at(file.sections.len() as u16).data.len() as u64 - 16;
        file.refer("syscall", start, first, R_CALL);
        let image = load(&file.write(), &kernel()).map_err(|err| err.to_string())?;
        Ok::<_, String>(image.functions.into_iter().map(|f| f.name).collect::<Vec<_>>().join(" "))
    };
    // Of the two, one has a type.
    assert_eq!(with(".text", 16), Ok("second program".to_owned()));
    let overlaps = Err("symbol second: it overlaps with function first".to_owned());
    assert_eq!(with(".text", 8), overlaps);
    assert_eq!(with("syscall", 16), overlaps);
}

/// What stands in for a kernel, and has less.
pub struct Engine(pub Kernel);

impl Target for Engine {
    fn btf(&self) -> &Btf {
        self.0.btf()
    }

    fn kernel_version(&self) -> u32 {
        self.0.kernel_version()
    }

    fn kconfig(&self, name: &str) -> Option<String> {
        self.0.kconfig(name)
    }

    fn stands_in(&self, _: &str) -> Option<String> {
        Some("the engine, as Linux 7.2".to_owned())
    }
}

#[test]
fn what_a_kernel_may_have_is_needed_only_where_it_is_used() {
    let image = load(&with_a_function(false).write(), &Engine(kernel())).expect("nobody needs it");
    let lacks = "extern (func ksym) 'scx_bpf_absent': the engine, as Linux 7.2, does not have it";
    let unused = format!("{lacks}, and nothing that is loaded uses it");
    assert_eq!(image.notes, ["program left_out (syscall) is not loaded".to_owned(), unused]);
    let image = load(&with_a_function(true).write(), &Engine(kernel())).expect("it is named");
    assert_eq!(image.lacking, [format!("{lacks} (used by third)")]);
    // libbpf has no mercy with what the kernel itself has not, even if nobody uses it.
    let missing = "extern (func ksym) 'scx_bpf_absent': not found in kernel or module BTFs \
                   (used by third)";
    for calls_it in [false, true] {
        let error = load(&with_a_function(calls_it).write(), &kernel()).map(|_| ());
        assert_eq!(error, Err(Error::Extern(vec![missing.to_owned()])));
    }
}

/// So with its configuration.
#[test]
fn configuration_that_a_kernel_may_have() {
    let with = |uses_it: bool| {
        let mut file = File::new();
        let ty = file.btf.bool();
        let var = file.btf.var("CONFIG_X", ty, linkage::EXTERN);
        file.btf.section(".kconfig", 0, &[(var, 0, 0)]);
        let symbol = file.external("CONFIG_X", GLOBAL);
        let [low, high] = wide(1, 0);
        file.function("syscall", "program", &[low, high, EXIT]);
        if uses_it {
            file.refer("syscall", 0, symbol, R_LOAD);
        }
        load(&file.write(), &Engine(kernel()))
    };
    let lacks = "extern 'CONFIG_X': the engine, as Linux 7.2, does not have it";
    let unused = format!("{lacks}, and nothing that is loaded uses it");
    assert_eq!(with(false).expect("nobody needs it").notes, [unused]);
    assert_eq!(with(true).expect("it is named").lacking, [format!("{lacks} (used by program)")]);
}

#[test]
fn arrays_of_programs_start_with_programs() {
    let with = |target: &str| {
        let mut file = File::new();
        let b = &mut file.btf;
        let fields = [number(b, 3), number(b, 2), number(b, 4)];
        let proto = b.proto(1, &[]);
        let pointer = b.ptr(proto);
        let values = b.array(pointer, 0);
        let ty = b.structure(
            "",
            &[
                Field::new("type", fields[0]),
                Field::new("max_entries", fields[1]),
                Field::new("key_size", fields[2]),
                Field::new("values", values),
            ],
        );
        let mut vars = Vars::new(&mut file, ".maps", elf::PROGBITS);
        vars.var("tails", ty, &[0; 40]);
        vars.finish();
        file.function(".text", "subprogram", &[mov(0, 0), EXIT]);
        file.function("syscall", "first", &[mov(0, 0), EXIT]);
        file.function("syscall", "second", &[mov(0, 0), EXIT]);
        file.function("?syscall", "left_out", &[mov(0, 0), EXIT]);
        let symbol = file.symbols.iter().position(|symbol| symbol.name == target).expect(target);
        let maps = file.section(".maps", elf::PROGBITS, 0);
        file.relocations.insert(maps, vec![(24 + 8, symbol as u32 + 1, R_ABS)]);
        load(&file.write(), &kernel()).map_err(|err| err.to_string())
    };
    let image = with("second").expect("it loads");
    assert_eq!(image.maps[0].entries, [None, Some(1)]);
    let name = &image.functions[image.programs[1].function].name;
    assert_eq!(name, "second");
    let message = with("subprogram").map(|_| ()).expect_err("it is none");
    assert_eq!(message, "map tails: value 1: `subprogram` is no program");
    let message = with("left_out").map(|_| ()).expect_err("it is none");
    assert_eq!(message, "map tails: value 1: program left_out is not loaded");
}
