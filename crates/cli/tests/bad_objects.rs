//! Objects that are no schedulers, by the real command: each ends with one message that says what is
//! wrong, soon, and in little memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use scxlab_bpf::btf::{Field, TypeId};
use tempfile::TempDir;

use crate::elf::{ALLOC, File, NOBITS, PROGBITS};
use crate::sample::{R_ABS, Vars, map, number};

#[allow(dead_code, reason = "the loader's tests use all of it")]
#[path = "../../bpf/tests/loader/elf.rs"]
mod elf;
#[allow(dead_code, reason = "the loader's tests use all of it")]
#[path = "../../bpf/tests/loader/sample.rs"]
mod sample;

/// KiB of address space that the command may use, far below what the bad objects speak of.
const MEMORY: u64 = 640 << 10;
/// A debug build on a busy machine has more than enough of it.
const TIME: Duration = Duration::from_secs(60);

/// The bytes of a file with a scheduler of each of these names, which does nothing.
fn schedulers(names: &[&str]) -> File {
    schedulers_in(".struct_ops.link", names)
}

fn schedulers_in(section: &str, names: &[&str]) -> File {
    let mut file = File::new();
    let char = file.btf.char();
    let text = file.btf.array(char, 128);
    let ops = file.btf.structure("sched_ext_ops", &[Field::new("name", text)]);
    let license = file.section("license", PROGBITS, ALLOC);
    file.at(license).data = b"GPL\0".to_vec();
    if names.is_empty() {
        return file;
    }
    let mut vars = Vars::new(&mut file, section, PROGBITS);
    for name in names {
        let mut data = [0; 128];
        data[..name.len()].copy_from_slice(name.as_bytes());
        vars.var(&format!("{name}_ops"), ops, &data);
    }
    vars.finish();
    file
}

/// The same with a variable of this type in a section.
fn with(section: &str, kind: u32, name: &str, ty: impl Fn(&mut File) -> TypeId) -> File {
    let mut file = schedulers(&["good"]);
    let ty = ty(&mut file);
    let mut vars = Vars::new(&mut file, section, kind);
    vars.var(name, ty, &[0; 64]);
    vars.finish();
    file
}

/// A directory with an object in it.
struct Object {
    file: PathBuf,
    _dir: TempDir,
}

fn object(bytes: &[u8]) -> Object {
    let dir = tempfile::tempdir().expect("a directory for the object");
    let file = dir.path().join("some.bpf.o");
    std::fs::write(&file, bytes).expect("the object is written");
    Object { file, _dir: dir }
}

/// Runs the command on an object; its exit status and what it said.
fn run(file: &Path, more: &[&str]) -> (Option<i32>, String) {
    let begun = Instant::now();
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY} && exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_scxlab"))
        .arg("run")
        .arg(file)
        .args(["--duration", "200ms", "--cpus", "2"])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    assert!(begun.elapsed() < TIME, "it took {:?}", begun.elapsed());
    let err = String::from_utf8(output.stderr).expect("the message is text");
    assert!(!err.contains("panicked"), "{err}");
    (output.status.code(), err)
}

/// The command refuses these bytes with one line, which is this behind the file's name.
fn refuses_with(bytes: &[u8], more: &[&str], message: &str) {
    let object = object(bytes);
    let (status, err) = run(&object.file, more);
    let expected = format!("scxlab: {}: {message}\n", object.file.display());
    assert_eq!((status, &*err), (Some(2), &*expected));
}

/// The same for a message with the number of a type, which is N.
fn refuses_type(bytes: &[u8], message: &str) {
    let object = object(bytes);
    let (status, err) = run(&object.file, &[]);
    let err: String = err
        .split_inclusive(['[', ']'])
        .map(|part| match part.strip_suffix(']') {
            Some(number) if number.parse::<u32>().is_ok() => "N]",
            _ => part,
        })
        .collect();
    let expected = format!("scxlab: {}: {message}\n", object.file.display());
    assert_eq!((status, &*err), (Some(2), &*expected));
}

fn refuses(bytes: &[u8], message: &str) {
    refuses_with(bytes, &[], message);
}

#[test]
fn a_good_one_runs() {
    let (status, err) = run(&object(&schedulers(&["good"]).write()).file, &[]);
    assert_eq!((status, &*err), (Some(0), ""));
}

#[test]
fn truncated() {
    let good = schedulers(&["good"]).write();
    refuses(&[], "not a BPF object, which is an ELF file: it has 0 bytes");
    for end in 0..good.len() {
        // Each byte would take long; those near the beginning and the end differ most.
        if end % 37 != 0 && end > 80 && end + 8 < good.len() {
            continue;
        }
        let object = object(&good[..end]);
        let (status, err) = run(&object.file, &[]);
        assert_eq!((status, err.lines().count()), (Some(2), 1), "{end} bytes: {err}");
    }
}

#[test]
fn not_bpf() {
    refuses(&[b'x'; 4096], "not a BPF object, which is an ELF file");
    refuses(b"#!/bin/sh\nexit 0\n", "not a BPF object, which is an ELF file: it has 17 bytes");
    let mut other = schedulers(&["good"]).write();
    other[18] = 62;
    refuses(&other, "not a BPF object, but one for X86_64");
    let (status, err) = run(Path::new("/dev/zero.o"), &[]);
    assert_eq!((status, err.lines().count()), (Some(2), 1), "{err}");
}

#[test]
fn the_other_byte_order() {
    let mut other = schedulers(&["good"]).write();
    // e_ident[EI_DATA]; a big-endian file has its numbers in that order, too.
    other[5] = 2;
    for at in [16, 18, 60] {
        other.swap(at, at + 1);
    }
    refuses(&other, "not a BPF object: it is big-endian; compile it with -target bpfel");
}

#[test]
fn without_types() {
    let mut none = schedulers(&["good"]);
    none.btf_bytes = Some(Vec::new());
    refuses(&none.write(), "section .BTF: there are no types; compile the object with -g");
}

#[test]
fn types_that_go_in_circles() {
    // typedef a b; typedef b a; which a variable is of. Types are numbered as they are added.
    let circle = with(".bss", NOBITS, "round", |file| {
        let before = file.btf.typedef("before", 0);
        let first = file.btf.typedef("a", before + 2);
        file.btf.typedef("b", first);
        first
    });
    refuses_type(&circle.write(), "section .BTF: type [N] leads back to itself");
    // A structure of itself.
    let itself = with(".bss", NOBITS, "round", |file| {
        let itself = file.btf.declare_struct("itself");
        file.btf.define(itself, &[Field::new("more", itself)]);
        itself
    });
    refuses_type(&itself.write(), "section .BTF: type [N] leads back to itself");
}

#[test]
fn a_million_maps() {
    let outer = with(".maps", PROGBITS, "outer", |file| {
        let int = file.btf.int("int", 4, true);
        let inner = map(&mut file.btf, 2, 1, int, int);
        let fields = [number(&mut file.btf, 12), number(&mut file.btf, 1_000_000)];
        let size = number(&mut file.btf, 4);
        let pointer = file.btf.ptr(inner);
        let values = file.btf.array(pointer, 0);
        let fields = [
            Field::new("type", fields[0]),
            Field::new("max_entries", fields[1]),
            Field::new("key_size", size),
            Field::new("values", values),
        ];
        file.btf.structure("", &fields)
    });
    refuses(&outer.write(), "map outer: maps in it: 1000000 are more than 65536");

    // As many that are declared.
    for (count, message) in [
        (100_000, "maps: 100000 are more than 4096"),
        (1_000_000, "it has more than 67108864 bytes, which is the most of an object"),
    ] {
        let mut many = schedulers(&["good"]);
        let int = many.btf.int("int", 4, true);
        let one = map(&mut many.btf, 2, 1, int, int);
        let mut vars = Vars::new(&mut many, ".maps", PROGBITS);
        for number in 0..count {
            vars.var(&format!("m{number}"), one, &[0; 32]);
        }
        vars.finish();
        refuses(&many.write(), message);
    }

    // As many that are put into one.
    let mut filled = with(".maps", PROGBITS, "outer", |file| {
        let int = file.btf.int("int", 4, true);
        map(&mut file.btf, 2, 1, int, int)
    });
    let maps = filled.section(".maps", PROGBITS, ALLOC);
    filled.relocations.insert(maps, vec![(32, 1, R_ABS); 1_000_000]);
    refuses(&filled.write(), "values of maps: 1000000 are more than 65536");
}

#[test]
fn a_gibibyte_of_variables() {
    let huge = |len: u32| {
        with(".bss", NOBITS, "huge", move |file| {
            let char = file.btf.char();
            file.btf.array(char, len)
        })
    };
    let mut bss = huge(1 << 30);
    let section = bss.section(".bss", NOBITS, ALLOC);
    bss.at(section).size = Some(1 << 30);
    refuses(&bss.write(), "bytes of data, with section .bss: 1073741824 are more than 268435456");
}

#[test]
fn no_scheduler() {
    refuses(
        &schedulers(&[]).write(),
        "there is no scheduler in it: no variable of type sched_ext_ops in .struct_ops",
    );
}

#[test]
fn a_scheduler_that_is_off() {
    let off = schedulers_in("?.struct_ops.link", &["alt"]).write();
    refuses(
        &off,
        "there is no scheduler in it: no variable of type sched_ext_ops in .struct_ops that is loaded; \
         --ops NAME chooses one that it has off: alt_ops",
    );
    let (status, err) = run(&object(&off).file, &["--ops", "alt_ops"]);
    assert_eq!((status, &*err), (Some(0), ""));
}

#[test]
fn two_schedulers() {
    let two = schedulers(&["first", "second"]).write();
    refuses(
        &two,
        "there are 2 schedulers in it, and one is run: first_ops, second_ops; --ops NAME chooses one",
    );
    refuses_with(
        &two,
        &["--ops", "third_ops"],
        "struct_ops third_ops: it is not there; there are: first_ops, second_ops",
    );
    let (status, err) = run(&object(&two).file, &["--ops", "second_ops"]);
    assert_eq!((status, &*err), (Some(0), ""));
}

/// What `--ops` is not for.
#[test]
fn a_choice_where_there_is_none() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scxlab"));
    let output = command.args(["run", "qmap", "--ops", "good_ops"]).output();
    let output = output.expect("the command starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), err.lines().count()), (Some(2), 1), "{err}");
    let message = "--ops good_ops: only a .bpf.o file can have several schedulers";
    assert!(err.contains(message), "{err}");
}
