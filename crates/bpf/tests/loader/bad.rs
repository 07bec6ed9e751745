//! Bad objects: each ends with one message that says what is wrong, and where.

use std::io::Read as _;

use scxlab_bpf::Insn;
use scxlab_bpf::btf::{Builder, Field, linkage};
use scxlab_bpf::object::{Error, Object, load};

use crate::elf::{self, EXIT, File, GLOBAL, call, mov, wide};
use crate::sample::{R_ABS, R_CALL, R_LOAD, Vars, kernel, map, number, scheduler};

fn message(bytes: &[u8]) -> String {
    let err = load(bytes, &kernel()).map(|_| ()).expect_err("it is bad");
    let message = err.to_string();
    assert!(!message.is_empty());
    message
}

fn says(bytes: &[u8], what: &str) {
    let message = message(bytes);
    assert!(message.contains(what), "{what}: {message}");
}

/// A program and its types, without anything else.
fn small() -> File {
    let mut file = File::new();
    file.btf.int("int", 4, true);
    file.function("syscall", "program", &[mov(0, 0), EXIT]);
    file
}

#[test]
fn what_is_no_object() {
    assert_eq!(message(b""), "not a BPF object, which is an ELF file: it has 0 bytes");
    assert_eq!(message(&[b'x'; 100]), "not a BPF object, which is an ELF file");
    let good = scheduler().write();
    says(&good[..40], "not a BPF object, which is an ELF file");
    says(&good[..good.len() - 100], "section");
    let at = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    says(&at(18, &[62, 0]), "not a BPF object, but one for X86_64");
    says(&at(18, &[99, 99]), "not a BPF object, but one for machine 25443");
    says(&at(4, &[1]), "ELF files for BPF have 64 bits");
    says(&at(5, &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 247]), "it is big-endian");
    says(&at(16, &[2, 0]), "it is linked");
    // A program of this machine, or as much of it as is an ELF file that is looked at.
    let path = std::env::current_exe().expect("a test has a path");
    let mut test = Vec::new();
    let file = std::fs::File::open(path).expect("it is there");
    file.take(1 << 20).read_to_end(&mut test).expect("it is read");
    says(&test, "but one for");
}

#[test]
fn sections_that_make_no_sense() {
    let mut file = small();
    file.section(".bss", elf::NOBITS, elf::ALLOC);
    let bss = file.section(".bss", elf::NOBITS, elf::ALLOC);
    file.at(bss).size = Some(1 << 30);
    let bytes = file.write();
    assert_eq!(
        message(&bytes),
        "bytes of data, with section .bss: 1073741824 are more than 268435456"
    );

    let mut file = small();
    let data = file.section(".data", elf::PROGBITS, elf::ALLOC);
    file.at(data).size = Some(1 << 40);
    says(&file.write(), "section .data: 1099511627776 bytes at 0x");

    let mut file = small();
    let first = file.section(".data", elf::PROGBITS, elf::ALLOC);
    file.at(first).data = vec![0; 8];
    file.at(first).size = Some(64);
    let second = file.section(".rodata", elf::PROGBITS, elf::ALLOC);
    file.at(second).data = vec![0; 64];
    says(&file.write(), "section .rodata: it overlaps with section .data");

    let mut file = small();
    file.btf_bytes = Some(Vec::new());
    assert_eq!(
        message(&file.write()),
        "section .BTF: there are no types; compile the object with -g"
    );
    let mut file = small();
    file.btf_bytes = Some(b"no types at all, but more than a header".to_vec());
    says(&file.write(), "section .BTF: BTF header: it starts with");

    let mut file = small();
    let maps = file.section("maps", elf::PROGBITS, elf::ALLOC);
    file.at(maps).data = vec![0; 20];
    says(&file.write(), "section maps: maps of this old form");
    let mut file = small();
    let text = file.section("syscall", elf::PROGBITS, 0);
    file.symbols[0].size = 1 << 50;
    assert_eq!(text, 1);
    says(&file.write(), "symbol program: 1125899906842624 bytes at 0x0 of section syscall");
    let mut file = small();
    file.symbols[0].bind = elf::LOCAL;
    says(
        &file.write(),
        "symbol program: a program in section syscall is static, and not supported",
    );
    let mut file = small();
    file.symbols[0].value = 3;
    says(&file.write(), "symbol program: 16 bytes at 0x3 of section syscall are no instructions");
    let mut file = small();
    file.symbols[0].section = 999;
    says(&file.write(), "symbol program: section 999, but there are");
    let mut file = small();
    file.symbol("again", 1, 8, 8, elf::FUNC, GLOBAL);
    says(&file.write(), "symbol again: it overlaps with function program");
    let mut file = small();
    file.function("unheard/of", "program2", &[EXIT]);
    says(
        &file.write(),
        "program program2: missing BPF prog type, check ELF section name 'unheard/of'",
    );
}

#[test]
fn lists_that_make_no_sense() {
    // Two sections of relocations that are the same bytes.
    let mut file = small();
    for name in [".rel.one", ".rel.two"] {
        let section = file.section(name, elf::REL, 0);
        file.at(section).data = vec![0; 16];
        file.at(section).entry = 16;
    }
    let section = file.section(".rel.one", elf::REL, 0);
    file.at(section).size = Some(32);
    says(&file.write(), "section .rel.two: it overlaps with section .rel.one");

    let mut file = small();
    for name in ["one", "two"] {
        let mut vars = Vars::new(&mut file, ".data", elf::PROGBITS);
        vars.var(name, 1, &[0; 4]);
        vars.finish();
    }
    says(&file.write(), "section .data: there are two lists of its variables");

    let mut file = small();
    file.btf.section(".data", 0, &[]);
    says(&file.write(), "section .data: there are types of its variables, but it is not there");

    let mut file = small();
    let data = file.section(".data", elf::PROGBITS, elf::ALLOC);
    file.at(data).data = vec![0; 8];
    let var = file.btf.var("variable", 1, linkage::GLOBAL);
    file.btf.section(".data", 0, &[(var, 0, 4)]);
    says(&file.clone().write(), "section .data: variable `variable` has no symbol");
    file.symbol("variable", data, 6, 4, elf::OBJECT, GLOBAL);
    says(&file.write(), "section .data: variable `variable`: 4 bytes at 0x6 of 0x8 bytes");

    let mut file = small();
    let gone = file.btf.structure("gone", &[Field::new("a", 1)]);
    let insns = vec![mov(0, 0); 70_000];
    file.function("syscall", "long", &insns);
    for at in 0..70_000 {
        file.core("syscall", 16 + 8 * at, gone, "0:0", crate::sample::BYTE_OFFSET);
    }
    says(&file.write(), "instructions without a meaning: 65537 are more than 65536");
}

#[test]
fn exception_callbacks_are_refused() {
    let mut file = small();
    let int = 1;
    let func = file.btf.func("program", int, &[]);
    file.btf.decl_tag("exception_callback:caught", func, -1);
    says(&file.write(), "program program: its exception callback caught is not supported");
}

#[test]
fn relocations_that_make_no_sense() {
    let with = |code: &[Insn], change: &dyn Fn(&mut File)| {
        let mut file = File::new();
        file.btf.int("int", 4, true);
        file.function("syscall", "program", code);
        change(&mut file);
        file.write()
    };
    let [low, high] = wide(1, 0);
    let data = |file: &mut File, len: usize| {
        let data = file.section(".data", elf::PROGBITS, elf::ALLOC);
        file.at(data).data = vec![0; len];
        file.symbol("variable", data, 0, 8, elf::OBJECT, GLOBAL)
    };
    let refer = |to: u64, kind: u32| {
        move |file: &mut File| {
            let symbol = data(file, 8);
            file.refer("syscall", to, symbol, kind);
        }
    };
    let load = [low, high, EXIT];
    says(&with(&load, &refer(4, R_LOAD)), "section syscall: relocation at 0x4 is outside");
    says(&with(&load, &refer(4096, R_LOAD)), "section syscall: relocation at 0x1000 is outside");
    says(&with(&load, &refer(0, 77)), "relocation 77 against `variable` of code 0x18");
    says(&with(&load, &refer(16, R_LOAD)), "relocation 1 against `variable` of code 0x95");
    says(&with(&load, &refer(0, R_CALL)), "function program, instruction 0: relocation 10");
    says(&with(&[call(-1), EXIT], &refer(0, R_CALL)), "a call of `variable` in section .data");
    says(&with(&[mov(0, 0), low], &refer(8, R_LOAD)), "relocation 1 against `variable`");
    let far = Insn { imm: 8, ..low };
    says(&with(&[far, high, EXIT], &refer(0, R_LOAD)), "byte 0x8 of section .data, which has 0x8");
    says(
        &with(&load, &|file| {
            let symbol = data(file, 8);
            file.refer("syscall", 0, symbol, R_LOAD);
            file.refer("syscall", 0, symbol, R_LOAD);
        }),
        "it has more than one relocation",
    );
    says(
        &with(&load, &|file| file.refer("syscall", 0, 4000, R_LOAD)),
        "section .relsyscall: offset 0x0: symbol 4000, but there are",
    );
    says(
        &with(&load, &|file| {
            let debug = file.section("notes", elf::PROGBITS, 0);
            file.at(debug).data = vec![0; 8];
            let symbol = file.symbol("note", debug, 0, 8, elf::OBJECT, GLOBAL);
            file.refer("syscall", 0, symbol, R_LOAD);
        }),
        "section syscall refers to `note` in section notes, which is not loaded",
    );
    says(&with(&[call(40), EXIT], &|_| ()), "where no function begins");
    says(&with(&[mov(0, 0), low], &|_| ()), "a 64-bit load without its second half");
    let map = Insn { src: 1, ..low };
    says(&with(&[map, high, EXIT], &|_| ()), "it refers to something, but has no relocation");
    let kfunc = Insn { src: 2, ..call(0) };
    says(&with(&[kfunc, EXIT], &|_| ()), "it refers to something, but has no relocation");
    says(
        &with(&[call(-1), EXIT], &|file| {
            let symbol = file.external("nowhere", GLOBAL);
            file.refer("syscall", 0, symbol, R_CALL);
        }),
        "symbol nowhere: it is not defined, and has no BTF as an extern",
    );
    says(
        &with(&[call(-1), EXIT], &|file| {
            let (symbol, _) = file.function("?syscall", "left_out", &[EXIT]);
            file.refer("syscall", 0, symbol, R_CALL);
        }),
        "a call of left_out, which is not loaded",
    );
}

#[test]
fn jump_tables_stay_in_their_function() {
    let [low, high] = wide(1, 0);
    let with = |table: &[u64], size: u64| {
        let mut file = File::new();
        file.btf.int("int", 4, true);
        file.function("syscall", "first", &[EXIT]);
        file.function("syscall", "second", &[low, high, mov(0, 1), EXIT]);
        let tables = file.section(".jumptables", elf::PROGBITS, 0);
        file.at(tables).data = table.iter().flat_map(|word| word.to_le_bytes()).collect();
        let symbol = file.symbol("BPF.JT.0.0", tables, 0, size, elf::OBJECT, GLOBAL);
        file.refer("syscall", 8, symbol, R_LOAD);
        file.write()
    };
    let image = load(&with(&[24, 32], 16), &kernel()).expect("it loads");
    let table = image.maps.iter().find(|map| map.name == ".jumptables").expect("a map");
    assert_eq!(table.entries, [Some(3), Some(4)]);
    says(&with(&[24, 40], 16), "leads to 0x28, out of the function");
    says(&with(&[24, 0], 16), "leads to 0x0, out of the function");
    says(&with(&[25], 8), "leads to 0x19, out of the function");
    says(&with(&[24], 16), "a table of 16 bytes at 0x0 of section .jumptables");
}

#[test]
fn maps_that_make_no_sense() {
    let with = |build: &dyn Fn(&mut File) -> u32| {
        let mut file = small();
        let ty = build(&mut file);
        let mut vars = Vars::new(&mut file, ".maps", elf::PROGBITS);
        vars.var("map", ty, &[0; 64]);
        vars.finish();
        file.write()
    };
    says(&with(&|_| 1), "map map: it is a int, not a struct");
    says(&with(&|file| map(&mut file.btf, 0, 1, 1, 1)), "map map: it has no type");
    says(
        &with(&|file| map(&mut file.btf, 12, 1_000_000, 1, 1)),
        "map map: maps in it: 1000000 are more than 65536",
    );
    says(
        &with(&|file| {
            let two = [number(&mut file.btf, 2), number(&mut file.btf, 4)];
            file.btf.structure("", &[Field::new("type", two[0]), Field::new("colour", two[1])])
        }),
        "map map: `colour` is unknown",
    );
    says(
        &with(&|file| {
            let kind = number(&mut file.btf, 2);
            let size = number(&mut file.btf, 8);
            let key = file.btf.ptr(1);
            let fields = [("type", kind), ("key_size", size), ("key", key)];
            file.btf.structure("", &fields.map(|(name, ty)| Field::new(name, ty)))
        }),
        "map map: two sizes of its key: 8 and 4",
    );
    says(
        &with(&|file| {
            let nothing = file.btf.ptr(0);
            file.btf.structure("", &[Field::new("value", nothing)])
        }),
        "map map: type [0] void has no size",
    );
    // A map of maps of maps.
    says(
        &with(&|file| {
            let kind = number(&mut file.btf, 12);
            let inner = map(&mut file.btf, 2, 1, 1, 1);
            let mut ty = inner;
            for _ in 0..2 {
                let pointer = file.btf.ptr(ty);
                let values = file.btf.array(pointer, 0);
                ty = file
                    .btf
                    .structure("", &[Field::new("type", kind), Field::new("values", values)]);
            }
            ty
        }),
        "map map.inner: `values` in a map inside of a map",
    );

    let mut file = small();
    let ty = map(&mut file.btf, 2, 1, 1, 1);
    let section = file.section(".maps", elf::PROGBITS, elf::ALLOC);
    file.at(section).data = vec![0; 32];
    let var = file.btf.var("map", ty, linkage::GLOBAL);
    file.btf.section(".maps", 32, &vec![(var, 0, 32); 1_000_000]);
    file.symbol("map", section, 0, 32, elf::OBJECT, GLOBAL);
    assert_eq!(message(&file.write()), "maps: 1000000 are more than 4096");

    let mut file = small();
    let ty = map(&mut file.btf, 33, 1, 1, 1);
    let mut vars = Vars::new(&mut file, ".maps", elf::PROGBITS);
    vars.var("one", ty, &[0; 32]);
    vars.var("two", ty, &[0; 32]);
    vars.finish();
    says(&file.write(), "map two: only one arena is supported (map one is one, too)");
}

#[test]
fn operations_that_make_no_sense() {
    let mut file = scheduler();
    let ops = file.section(".struct_ops.link", elf::PROGBITS, 0);
    file.at(ops).data[16] = 1;
    says(
        &file.write(),
        "struct_ops sample_ops: Cannot find member not_in_the_kernel in kernel BTF",
    );
    let mut file = scheduler();
    let all = file.relocations.get_mut(&ops).expect("there are some");
    all[0].0 = 24;
    says(&file.write(), "struct_ops sample_ops: cannot relocate non func ptr flags");
    let mut file = scheduler();
    let program = file.symbols.iter().position(|symbol| symbol.name == "on_demand").expect("it is");
    let all = file.relocations.get_mut(&ops).expect("there are some");
    all[0].1 = program as u32 + 1;
    says(&file.write(), "struct_ops sample_ops: prog on_demand is not struct_ops BPF program");
    let mut file = scheduler();
    let all = file.relocations.get_mut(&ops).expect("there are some");
    all.remove(0);
    says(&file.write(), "program sample_init: it is no operation of any struct_ops");
    let mut file = scheduler();
    file.at(ops).data[0] = 1;
    let all = file.relocations.get_mut(&ops).expect("there are some");
    all[0].0 = 1 << 40;
    says(
        &file.write(),
        "section .rel.struct_ops.link: relocation at 0x10000000000 is of no variable",
    );
    // The same program as two operations.
    let mut file = scheduler();
    let all = file.relocations.get_mut(&ops).expect("there are some");
    let enqueue = all[1].1;
    all[0] = (0, enqueue, R_ABS);
    says(&file.write(), "struct_ops sample_ops: invalid reuse of prog sample_enqueue");
}

#[test]
fn no_operations_and_two_of_them_are_the_callers_matter() {
    let image = load(&small().write(), &kernel()).expect("it loads");
    assert!(image.struct_ops.is_empty());
    let mut file = small();
    let ty = crate::sample::types(&mut file).ops;
    let mut vars = Vars::new(&mut file, ".struct_ops.link", elf::PROGBITS);
    vars.var("one", ty, &[0; 168]);
    vars.var("two", ty, &[0; 168]);
    vars.finish();
    let mut vars = Vars::new(&mut file, "?.struct_ops", elf::PROGBITS);
    vars.var("left_out", ty, &[0; 168]);
    vars.finish();
    let object = Object::parse(&file.write()).expect("it is one");
    let names: Vec<_> = object.struct_ops().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(object.struct_ops_off().collect::<Vec<_>>(), ["left_out"]);
    let image = object.load(&kernel()).expect("it loads");
    assert_eq!(image.struct_ops.len(), 2);
}

/// They are counted in all sections of relocations together.
#[test]
fn too_many_operations() {
    let mut file = scheduler();
    let ops = file.section(".struct_ops.link", elf::PROGBITS, 0);
    let (_, symbol, _) = file.relocations[&ops][0];
    let word = [0_u64, u64::from(symbol) << 32 | u64::from(R_ABS)];
    let data: Vec<u8> = word.iter().flat_map(|word| word.to_le_bytes()).collect();
    let data = data.repeat(40_000);
    // Behind them are `.BTF.ext`, `.BTF`, and the relocations that the file has anyway.
    let symtab = file.sections.len() + 2 + 2 + file.relocations.len() + 1;
    for name in [".rel.more", ".rel.most"] {
        let number = file.section(name, elf::REL, 0);
        let section = file.at(number);
        (section.data, section.info, section.entry) = (data.clone(), ops.into(), 16);
        section.link = symtab as u32;
    }
    says(&file.write(), "operations: 80000 are more than 65536");
}

#[test]
fn members_must_be_as_in_the_kernel() {
    let ops = |change: &dyn Fn(&mut Builder) -> Vec<(&'static str, u32)>| {
        let mut kernel = kernel();
        let mut b = Builder::new();
        let u64_ = b.int("unsigned long long", 8, false);
        let proto = b.proto(0, &[]);
        let func = b.ptr(proto);
        let byte = b.char();
        let name = b.array(byte, 128);
        let mut members = vec![
            ("init", func),
            ("enqueue", func),
            ("flags", u64_),
            ("timeout_ms", u64_),
            ("name", name),
        ];
        for (name, ty) in change(&mut b) {
            members.retain(|&(known, _)| known != name);
            members.push((name, ty));
        }
        let members: Vec<_> = members.iter().map(|&(name, ty)| Field::new(name, ty)).collect();
        b.structure("sched_ext_ops", &members);
        kernel.btf = b.finish().expect("types");
        let err = load(&scheduler().write(), &kernel).map(|_| ()).expect_err("it differs");
        err.to_string()
    };
    let size = "struct_ops sample_ops: Error in size of member timeout_ms: 4 != 8(kernel)";
    assert_eq!(ops(&|_| Vec::new()), size);
    let kind = "struct_ops sample_ops: Unmatched member type init ptr != int(kernel)";
    assert_eq!(ops(&|b| vec![("init", b.int("long", 8, true))]), kind);
    let function = "struct_ops sample_ops: kernel member init is not a func ptr";
    assert_eq!(ops(&|b| vec![("init", b.ptr(0))]), function);
    let mut file = scheduler();
    let section = file.section(".struct_ops.link", elf::PROGBITS, 0);
    file.at(section).data[0] = 1;
    file.relocations.get_mut(&section).expect("there are some").remove(0);
    says(&file.write(), "struct_ops sample_ops: member init is not a struct_ops program");
}

#[test]
fn types_of_functions_are_compared() {
    let mut kernel = kernel();
    let mut b = Builder::new();
    let u64_ = b.int("unsigned long long", 8, false);
    b.func("scx_bpf_create_dsq", u64_, &[("dsq_id", u64_)]);
    kernel.btf = b.finish().expect("types");
    let mut file = File::new();
    let int = file.btf.int("int", 4, true);
    let u64_ = file.btf.int("unsigned long long", 8, false);
    let proto = file.btf.proto(int, &[("dsq_id", u64_), ("node", int)]);
    let func = file.btf.func_of("scx_bpf_create_dsq", proto, 2);
    file.btf.section(".ksyms", 0, &[(func, 0, 4)]);
    file.function("syscall", "program", &[call(-1), EXIT]);
    let symbol = file.external("scx_bpf_create_dsq", GLOBAL);
    file.refer("syscall", 0, symbol, R_CALL);
    let err = load(&file.write(), &kernel).map(|_| ()).expect_err("it differs");
    assert_eq!(
        err,
        Error::Extern(vec![
            "extern (func ksym) 'scx_bpf_create_dsq': func_proto [3] incompatible with vmlinux [2] \
             (used by program)"
                .to_owned()
        ])
    );
}
