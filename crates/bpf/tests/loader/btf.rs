//! BTF: there and back, and what is no BTF.

use std::fs;

use proptest::prelude::*;
use scxlab_bpf::btf::{
    Array, Btf, BtfError, BtfExt, Builder, Composite, Field, Kind, LineInfo, Member, Name, Type,
    linkage,
};

/// Something of every kind.
fn every_kind() -> Builder {
    let mut b = Builder::new();
    let int = b.int("int", 4, true);
    let float = b.float("double", 8);
    let pointer = b.ptr(int);
    let array = b.array(pointer, 7);
    let structure = b.structure(
        "s",
        &[Field::new("a", int), Field::new("b", int).bits(3), Field::new("c", array)],
    );
    b.union("u", &[Field::new("f", float), Field::new("s", structure)]);
    b.enumeration("e", 4, true, &[("MINUS", -1), ("ONE", 1)]);
    b.enumeration("e64", 8, false, &[("LARGE", u64::MAX.into())]);
    b.forward("there", true);
    let typedef = b.typedef("t", structure);
    let volatile = b.volatile(typedef);
    let constant = b.constant(volatile);
    let restrict = b.restrict(constant);
    let tagged = b.type_tag("rcu", restrict);
    let func = b.func("f", int, &[("x", tagged), ("", 0)]);
    let var = b.var("v", int, linkage::GLOBAL);
    b.section(".data", 4, &[(var, 0, 4)]);
    b.decl_tag("kfunc", func, -1);
    b.add(Type::TypeTag { name: Name::NONE, to: int, attribute: true });
    b
}

#[test]
fn what_is_written_is_read() {
    let btf = every_kind().finish().expect("types");
    let again = Btf::parse(&btf.to_bytes()).expect("it is BTF");
    assert_eq!(again, btf);
    assert_eq!(again.to_bytes(), btf.to_bytes());
    let kinds: std::collections::BTreeSet<_> = btf.iter().map(|(_, ty)| ty.kind()).collect();
    assert_eq!(kinds.len(), Kind::ALL.len() - 1, "all but void");
    assert_eq!(btf.find("s", Kind::Struct), Some(5));
    assert_eq!(btf.find("s", Kind::Union), None);
    assert_eq!(btf.describe(btf.find("t", Kind::Typedef).expect("it is there")), "t");
}

#[test]
fn structures_are_laid_out_as_in_c() {
    let mut b = Builder::new();
    let char = b.char();
    let int = b.int("int", 4, true);
    let long = b.int("long", 8, true);
    // struct { char a; int b; char c; long d; int e : 3; int f : 30; char g; }
    let id = b.structure(
        "s",
        &[
            Field::new("a", char),
            Field::new("b", int),
            Field::new("c", char),
            Field::new("d", long),
            Field::new("e", int).bits(3),
            Field::new("f", int).bits(30),
            Field::new("g", char),
        ],
    );
    let inner = b.union("", &[Field::new("x", char), Field::new("y", long)]);
    let outer = b.structure("o", &[Field::new("a", char), Field::new("", inner)]);
    let packed = b.structure("p", &[Field::new("a", char), Field::new("b", long).at_bit(8)]);
    let larger = b.structure("l", &[Field::new("a", char)]);
    b.set_size(larger, 64);
    let btf = b.finish().expect("types");
    let offsets: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"]
        .iter()
        .map(|name| btf.member(id, name).expect(name).bit_offset)
        .collect();
    assert_eq!(offsets, [0, 32, 64, 128, 192, 224, 256]);
    assert_eq!((btf.size_of(id), btf.align_of(id)), (Ok(40), Ok(8)));
    assert_eq!(btf.member(outer, "y").map(|member| member.bit_offset), Some(64));
    assert_eq!(btf.member(outer, "z"), None);
    assert_eq!((btf.size_of(packed), btf.align_of(packed)), (Ok(9), Ok(1)));
    assert_eq!(btf.size_of(larger), Ok(64));
}

#[test]
fn types_without_an_end_have_no_size() {
    let mut b = Builder::new();
    let again = b.typedef("again", 1);
    let itself = b.declare_struct("itself");
    b.add(Type::Array(Array { element: 3, index: 3, len: 2 }));
    b.constant(4);
    let mut wide = b.structure("", &[]);
    for _ in 0..64 {
        let member = Member { name: Name::NONE, ty: wide, bit_offset: 0, bits: 0 };
        let members = vec![member; 2];
        wide = b.add(Type::Union(Composite { name: Name::NONE, size: 0, members }));
    }
    let btf = b.finish().expect("types");
    assert!(btf.resolve(again).is_err());
    assert!(btf.size_of(again).is_err());
    assert!(btf.size_of(3).is_err());
    assert!(btf.align_of(wide).is_err());
    assert_eq!(btf.member(wide, "x"), None);
    assert_eq!(btf.size_of(itself), Ok(0));
    assert_eq!(btf.describe(again), "again");
    assert_eq!(btf.describe(4), "a type without an end");
    assert!(!btf.describe(3).is_empty());
}

#[test]
fn builders_say_what_makes_no_sense() {
    let fails = |build: &dyn Fn(&mut Builder), says: &str| {
        let mut b = Builder::new();
        b.int("int", 4, true);
        build(&mut b);
        let message = b.finish().expect_err(says).to_string();
        assert!(message.contains(says), "{says}: {message}");
    };
    fails(&|b| _ = b.structure("s", &[Field::new("v", 0)]), "type [0] void has no size");
    fails(&|b| _ = b.structure("s", &[Field::new("b", 1).bits(33)]), "`b`: it has more bits");
    fails(&|b| b.define(1, &[]), "`int`: it is neither a struct nor a union");
    fails(&|b| b.set_size(1, 8), "`int`: it cannot have this size");
    let small = |b: &mut Builder| {
        let id = b.structure("s", &[Field::new("a", 1)]);
        b.set_size(id, 3);
    };
    fails(&small, "`s`: it cannot have this size");
    fails(&|b| _ = b.int(&"x".repeat(600), 4, true), "a name of that form");
}

#[test]
fn what_is_no_btf_is_told_where() {
    let good = every_kind().finish().expect("types").to_bytes();
    let at = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    for (bytes, says) in [
        (good[..20].to_vec(), "it has 20 bytes, 24 are the least"),
        (at(0, &[0xeb, 0x9f]), "it is big-endian"),
        (at(2, &[2]), "version 2 is not known"),
        (at(4, &[200, 200]), "its length is 51400"),
        (at(8, &[2]), "types at 2 are not aligned"),
        (at(12, &[0, 0, 0, 1]), "types at 0, 16777216 bytes, are outside"),
        (good[..good.len() - 1].to_vec(), "strings at"),
        (at(good.len() - 1, b"x"), "BTF strings: the last one has no end"),
        // The first type is `int`: name, kind, bytes.
        (at(24, &[255, 255]), "type [1] at offset 0: the name of the type is at 65535"),
        (at(31, &[99]), "type [1] at offset 0: kind 99 is unknown"),
        (at(31, &[0]), "type [1] at offset 0: kind 0 is unknown"),
        // The third is a pointer, behind 16 and 12 bytes.
        (
            at(24 + 16 + 12 + 8, &[77]),
            "type [3] at offset 28: it refers to type [77], but there are",
        ),
    ] {
        let message = Btf::parse(&bytes).expect_err(says).to_string();
        assert!(message.contains(says), "{says}: {message}");
    }
    // Types that end in the middle of the third one.
    let len = 16 + 12 + 4;
    let strings = u32::from_le_bytes(good[16..20].try_into().expect("4 bytes")) as usize;
    let mut cut = good[..24 + len].to_vec();
    cut[12..16].copy_from_slice(&(len as u32).to_le_bytes());
    cut[16..20].copy_from_slice(&(len as u32).to_le_bytes());
    cut.extend(&good[24 + strings..]);
    let cut = Btf::parse(&cut);
    assert!(matches!(cut, Err(BtfError::Type { id: 3, offset: 28, .. })), "{cut:?}");
}

#[test]
fn what_is_said_of_instructions_is_read() {
    let mut b = Builder::new();
    let (section, file, text) = (b.text("syscall").0, b.text("a.c").0, b.text("return 0;").0);
    let btf = b.finish().expect("names");
    // A line whose records are longer than we know, and two functions.
    let lines = [20, section, 1, 8, file, text, 7 << 10 | 3, 99];
    let functions = [8, section, 2, 0, 5, 16, 6];
    let mut words = vec![0x0001_eb9f, 24, 32, 28, 0, 32];
    words.extend(lines);
    words.extend(functions);
    let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    let ext = BtfExt::parse(&bytes, &btf).expect("it is one");
    assert_eq!(btf.name(ext.lines[0].section), "syscall");
    assert_eq!(ext.lines[0].records, [LineInfo { offset: 8, file, text, line: 7, column: 3 }]);
    assert!(ext.relocations.is_empty());
    let at = |at: usize, with: u32| {
        let mut bytes = bytes.clone();
        bytes[4 * at..4 * at + 4].copy_from_slice(&with.to_le_bytes());
        bytes
    };
    for (bytes, says) in [
        (bytes[..4].to_vec(), "it has 4 bytes only"),
        (at(0, 0x0001_9feb), "it starts with 0x9feb"),
        (at(0, 0x0002_eb9f), "version 2 or flags 0"),
        (at(1, 8), "its header is 8 of"),
        (at(5, 4000), "line_info: 4000 bytes at 0 are not in it"),
        (at(4, 2), "line_info: 32 bytes at 2 are not in it"),
        (at(6, 4), "line_info: a record of 4 bytes"),
        (at(7, 0), "line_info: the section at 4 has no name"),
        (at(7, 4000), "line_info: the name of the section at 4 is at 4000 of"),
        (at(8, 0), "line_info: 0 records at 4"),
        (at(8, u32::MAX), "line_info: 4294967295 records at 4"),
        (at(5, 36), "line_info: it is cut off at 32"),
    ] {
        let message = BtfExt::parse(&bytes, &btf).expect_err(says).to_string();
        assert!(message.contains(says), "{says}: {message}");
    }
}

/// Many records can refer to one string.
#[test]
fn long_strings_are_not_looked_at_to_their_end() {
    let strings = format!("\0aé{}\0", "b".repeat(1000));
    let head = [0x0001_eb9f_u32, 24, 0, 0, 0, strings.len() as u32];
    let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(strings.as_bytes());
    let (btf, text) = (Btf::parse(&bytes).expect("it has no types"), 1);
    let cut = [0, 1, 2, 3, 4].map(|most| btf.text(text, most).expect("it is there"));
    assert_eq!(cut, ["", "a", "a", "aé", "aéb"]);
    assert_eq!(btf.text(text, 5000).expect("it is there").len(), 1003);
    assert_eq!(btf.text(5000, 1), None);
    let long = ".BTF.ext: core_relo: the way has more than 511 bytes";
    let name = ".BTF.ext: core_relo: the name of the section at 4 has more than 511 bytes";
    for (section, way, says) in [(text + 1000, text, long), (text, text + 1000, name)] {
        let words = [0x0001_eb9f, 32, 0, 0, 0, 0, 0, 28, 16, section, 1, 0, 1, way, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        let message = BtfExt::parse(&bytes, &btf).expect_err(says).to_string();
        assert_eq!(message, says);
    }
}

/// The running kernel's, if it has any.
#[test]
fn a_real_kernels_types_go_there_and_back() {
    let Ok(bytes) = fs::read("/sys/kernel/btf/vmlinux") else {
        eprintln!("skipped: this kernel has no BTF");
        return;
    };
    let btf = Btf::parse(&bytes).expect("it is BTF");
    let task = btf.find("task_struct", Kind::Struct).expect("a kernel has tasks");
    let comm = btf.member(task, "comm").expect("tasks have names");
    assert_eq!(btf.size_of(comm.ty), Ok(16));
    assert!(btf.align_of(task).is_ok());
    assert!(Btf::parse(&btf.to_bytes()) == Ok(btf));
}

proptest! {
    #[test]
    fn any_bytes_are_btf_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Btf::parse(&bytes);
    }

    #[test]
    fn damaged_btf_is_btf_or_an_error(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let mut bytes = every_kind().finish().expect("types").to_bytes();
        for (at, with) in damage {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        if let Ok(btf) = Btf::parse(&bytes) {
            // Whatever it says now, questions have answers.
            for (id, _) in btf.iter() {
                let _ = (btf.size_of(id), btf.align_of(id), btf.member(id, "a"), btf.describe(id));
            }
            let again = Btf::parse(&btf.to_bytes()).expect("what was read can be read again");
            prop_assert_eq!(again, btf);
        }
    }
}
