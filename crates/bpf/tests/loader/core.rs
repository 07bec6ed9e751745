//! CO-RE: every kind of relocation, where the kernel's types differ from the object's.

use scxlab_bpf::Insn;
use scxlab_bpf::btf::{Builder, Composite, Field, Member, Name, Type, TypeId};
use scxlab_bpf::image::Poison;
use scxlab_bpf::object::{Kernel, load};

use crate::elf::{EXIT, File, load as ldx, mov, wide};

const BYTE_OFFSET: u32 = 0;
const BYTE_SIZE: u32 = 1;
const FIELD_EXISTS: u32 = 2;
const SIGNED: u32 = 3;
const LEFT_SHIFT: u32 = 4;
const RIGHT_SHIFT: u32 = 5;
const LOCAL_TYPE_ID: u32 = 6;
const TARGET_TYPE_ID: u32 = 7;
const TYPE_EXISTS: u32 = 8;
const TYPE_SIZE: u32 = 9;
const ENUM_EXISTS: u32 = 10;
const ENUM_VALUE: u32 = 11;
const TYPE_MATCHES: u32 = 12;

/// Types that both sides have.
struct Basic {
    int: TypeId,
    u32: TypeId,
    u64: TypeId,
    bytes: TypeId,
    pointer: TypeId,
}

fn basic(b: &mut Builder) -> Basic {
    let int = b.int("int", 4, true);
    let u32 = b.int("unsigned int", 4, false);
    let u64 = b.int("unsigned long", 8, false);
    let byte = b.int("unsigned char", 1, false);
    let bytes = b.array(byte, 16);
    let pointer = b.ptr(0);
    Basic { int, u32, u64, bytes, pointer }
}

/// The object's types: what the relocations below are of.
fn local(b: &mut Builder) -> Vec<(&'static str, TypeId)> {
    let Basic { int, u32, u64, bytes, pointer } = basic(b);
    let inner = b.structure("", &[Field::new("deep", int), Field::new("deeper", u64)]);
    let none = b.array(u64, 0);
    let node = b.structure(
        "node___mine",
        &[
            Field::new("grown", u32),
            Field::new("name", bytes),
            Field::new("", inner),
            Field::new("next", pointer),
            Field::new("turned", int),
            Field::new("bits", u32).bits(3),
            Field::new("sign", int).bits(2),
            Field::new("gone", u32),
            Field::new("kind", u32),
            Field::new("tail", none),
        ],
    );
    let gone = b.structure("gone", &[Field::new("a", int)]);
    let colour = b.enumeration("colour", 4, false, &[("RED", 1), ("BLUE___x", 2), ("PINK", 3)]);
    let wide = b.enumeration("wide", 8, false, &[("LARGE", 1)]);
    let alias = b.typedef("alias", int);
    let alike = b.structure("alike", &[Field::new("x", int)]);
    let unlike = b.structure("unlike", &[Field::new("x", u64)]);
    let anonymous = b.structure("", &[Field::new("x", u64)]);
    vec![
        ("node", node),
        ("gone", gone),
        ("colour", colour),
        ("wide", wide),
        ("alias", alias),
        ("alike", alike),
        ("unlike", unlike),
        ("anonymous", anonymous),
    ]
}

fn kernel() -> Kernel {
    let mut b = Builder::new();
    let Basic { int, u32, u64, bytes, pointer } = basic(&mut b);
    // A type of no name first, so that numbers differ.
    b.constant(u32);
    let deeper = b.structure("", &[Field::new("before", u64), Field::new("deeper", u64)]);
    let either = b.union("", &[Field::new("deep", int), Field::new("", deeper)]);
    let none = b.array(u64, 0);
    b.structure(
        "node",
        &[
            Field::new("", either),
            Field::new("name", bytes),
            Field::new("grown", u64),
            Field::new("next", pointer),
            Field::new("turned", u64),
            Field::new("pad", u32).bits(9),
            Field::new("bits", u32).bits(5),
            Field::new("sign", int).bits(2),
            Field::new("kind", deeper),
            Field::new("tail", none),
        ],
    );
    b.enumeration("colour", 4, false, &[("BLUE", 7), ("RED", 0xffff_ffff)]);
    b.enumeration("wide", 8, false, &[("LARGE", 1 << 63)]);
    b.typedef("alias", int);
    b.structure("alike", &[Field::new("more", u64), Field::new("x", int)]);
    b.structure("unlike", &[Field::new("x", int)]);
    Kernel { btf: b.finish().expect("types"), ..Kernel::default() }
}

/// The first instructions of a program after relocation.
fn relocated(
    insns: &[Insn],
    types: impl Fn(&mut Builder) -> TypeId,
    access: &str,
    kind: u32,
    kernel: &Kernel,
) -> Result<Vec<Insn>, String> {
    let mut file = File::new();
    let id = types(&mut file.btf);
    let mut code = insns.to_vec();
    code.push(EXIT);
    file.function("syscall", "program", &code);
    file.core("syscall", 0, id, access, kind);
    let image = load(&file.write(), kernel).map_err(|err| err.to_string())?;
    Ok(image.insns[..insns.len()].to_vec())
}

fn of(name: &'static str) -> impl Fn(&mut Builder) -> TypeId {
    move |b| local(b).into_iter().find(|&(known, _)| known == name).expect(name).1
}

fn poison() -> Insn {
    Insn { code: Insn::CALL, imm: Poison::CORE, ..Insn::default() }
}

#[test]
fn immediate_operands() {
    let kernel = kernel();
    for (name, access, kind, before, after) in [
        ("node", "0:1", BYTE_OFFSET, 4, 16),
        ("node", "0:1:5", BYTE_OFFSET, 9, 21),
        ("node", "0:2:0", BYTE_OFFSET, 24, 0),
        ("node", "0:2:1", BYTE_OFFSET, 32, 8),
        ("node", "0:9:3", BYTE_OFFSET, 88, 104),
        ("node", "2", BYTE_OFFSET, 128, 160),
        ("node", "0:0", BYTE_SIZE, 4, 8),
        ("node", "0:1", BYTE_SIZE, 16, 16),
        ("node", "0:1:1", BYTE_SIZE, 1, 1),
        ("node", "0:7", FIELD_EXISTS, 1, 0),
        ("node", "0:3", FIELD_EXISTS, 1, 1),
        // Of another kind there: a number here, a structure there.
        ("node", "0:8", FIELD_EXISTS, 1, 0),
        ("node", "0:4", SIGNED, 1, 0),
        ("node", "0:6", SIGNED, 1, 1),
        ("node", "0:5", BYTE_SIZE, 4, 4),
        ("node", "0:5", BYTE_OFFSET, 52, 56),
        // Bits 9..14 of 32 there: to the top, and down again.
        ("node", "0:5", LEFT_SHIFT, 61, 50),
        ("node", "0:5", RIGHT_SHIFT, 61, 59),
        ("gone", "0:0", FIELD_EXISTS, 1, 0),
        ("gone", "0", TYPE_EXISTS, 1, 0),
        ("gone", "0", TYPE_SIZE, 4, 0),
        ("gone", "0", TARGET_TYPE_ID, 0, 0),
        ("node", "0", TYPE_EXISTS, 1, 1),
        ("node", "0", TYPE_SIZE, 64, 80),
        ("node", "0", TYPE_MATCHES, 1, 0),
        ("alike", "0", TYPE_MATCHES, 1, 1),
        ("unlike", "0", TYPE_MATCHES, 1, 0),
        ("alias", "0", TYPE_EXISTS, 1, 1),
        ("alias", "0", TYPE_MATCHES, 1, 1),
        ("colour", "1", ENUM_VALUE, 2, 7),
        ("colour", "0", ENUM_VALUE, 1, -1),
        ("colour", "1", ENUM_EXISTS, 1, 1),
        ("colour", "2", ENUM_EXISTS, 1, 0),
    ] {
        let found = relocated(&[mov(1, before)], of(name), access, kind, &kernel);
        assert_eq!(found, Ok(vec![mov(1, after)]), "{name} {access} kind {kind}");
    }
    let id = kernel.btf.find("node", scxlab_bpf::btf::Kind::Struct).expect("it is there") as i32;
    let found = relocated(&[mov(1, 5)], of("node"), "0", TARGET_TYPE_ID, &kernel);
    assert_eq!(found, Ok(vec![mov(1, id)]));
    let mut b = Builder::new();
    let local_id = of("node")(&mut b) as i32;
    let found = relocated(&[mov(1, 5)], of("node"), "0", LOCAL_TYPE_ID, &kernel);
    assert_eq!(found, Ok(vec![mov(1, local_id)]));
}

#[test]
fn loads_change_their_place_and_size() {
    let kernel = kernel();
    let node = |insn: Insn, access: &str| {
        relocated(&[insn], of("node"), access, BYTE_OFFSET, &kernel).map(|insns| insns[0])
    };
    // A number without a sign has grown.
    assert_eq!(node(ldx(4, 1, 2, 0), "0:0"), Ok(ldx(8, 1, 2, 32)));
    assert_eq!(node(ldx(8, 1, 2, 40), "0:3"), Ok(ldx(8, 1, 2, 40)));
    assert_eq!(node(ldx(1, 1, 2, 4), "0:1"), Ok(ldx(1, 1, 2, 16)));
    // One with a sign must not: what is loaded would be another number.
    assert_eq!(node(ldx(4, 1, 2, 48), "0:4"), Ok(poison()));
    assert_eq!(node(ldx(4, 1, 2, 56), "0:7"), Ok(poison()));
    let why = |insn: Insn, access: &str| {
        let mut file = File::new();
        let id = of("node")(&mut file.btf);
        file.function("syscall", "program", &[insn, EXIT]);
        file.core("syscall", 0, id, access, BYTE_OFFSET);
        load(&file.write(), &kernel).expect("it loads").poison[0].text.clone()
    };
    let (other, gone) = (why(ldx(4, 1, 2, 48), "0:4"), why(ldx(4, 1, 2, 56), "0:7"));
    assert!(other.contains("accesses field incorrectly"), "{other}");
    assert!(gone.starts_with("failed to resolve CO-RE relocation"), "{gone}");
    let store = Insn { code: 0x62, dst: 1, off: 4, imm: 9, ..Insn::default() };
    assert_eq!(
        node(Insn { code: 0x72, ..store }, "0:1"),
        Ok(Insn { code: 0x72, off: 16, ..store })
    );
}

#[test]
fn wide_loads_take_64_bits() {
    let kernel = kernel();
    let large = relocated(&wide(1, 1), of("wide"), "0", ENUM_VALUE, &kernel);
    assert_eq!(large, Ok(wide(1, 1 << 63).to_vec()));
    let gone = relocated(&wide(1, 3), of("colour"), "2", ENUM_VALUE, &kernel);
    assert_eq!(gone, Ok(vec![poison(), poison()]), "both halves");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let kernel = kernel();
    let addition = Insn { code: 0x0f, dst: 1, src: 2, ..Insn::default() };
    for (insn, name, access, kind, says) in [
        (mov(1, 3), "node", "0:1", BYTE_OFFSET, "its operand is 3, expected 4 -> 16"),
        (ldx(8, 1, 2, 0), "node", "0:0", BYTE_OFFSET, "it accesses 8 bytes, expected 4"),
        (ldx(4, 1, 2, 5), "node", "0:0", BYTE_OFFSET, "its operand is 5, expected 0"),
        (addition, "node", "0:0", BYTE_OFFSET, "it has no immediate operand"),
        (EXIT, "node", "0:0", BYTE_OFFSET, "code 0x95 has no operand"),
        (mov(1, 0), "node", "0:99", BYTE_OFFSET, "struct node___mine has no member 99"),
        (mov(1, 0), "node", "0:1:16", BYTE_OFFSET, "has no element 16"),
        (mov(1, 0), "node", "0:0:0", BYTE_OFFSET, "goes through unsigned int"),
        (mov(1, 0), "node", "", BYTE_OFFSET, "has no number"),
        (mov(1, 0), "node", "0:-1", BYTE_OFFSET, "has no number"),
        (mov(1, 0), "node", "4294967295", BYTE_OFFSET, "farther than 512 MiB"),
        (mov(1, 0), "node", "1", TYPE_EXISTS, "must be `0`"),
        (mov(1, 0), "node", "0", ENUM_VALUE, "is no enumeration"),
        (mov(1, 0), "colour", "3", ENUM_VALUE, "there is no enumerator"),
        (mov(1, 0), "node", "0", 13, "CO-RE relocation 13 is unknown"),
        (mov(1, 0), "node", "0:1:1", SIGNED, "signed of an element of an array"),
        (mov(1, 8), "anonymous", "0", TYPE_SIZE, "types without a name"),
    ] {
        let message = relocated(&[insn], of(name), access, kind, &kernel).expect_err(says);
        assert!(message.starts_with("function program, instruction 0: "), "{message}");
        assert!(message.contains(says), "{says}: {message}");
    }
    let message = relocated(&[mov(1, 0)], |_| 4000, "0", TYPE_EXISTS, &kernel);
    assert!(message.expect_err("no type").contains("[4000], which there is not"));
}

#[test]
fn candidates_must_agree() {
    let with = |second: &str, before: u32| {
        let mut b = Builder::new();
        let int = b.int("int", 4, true);
        b.structure("pair", &[Field::new("a", int), Field::new("b", int)]);
        let filler = b.array(int, before);
        b.structure("pair___2", &[Field::new("", filler), Field::new(second, int)]);
        Kernel { btf: b.finish().expect("types"), ..Kernel::default() }
    };
    let pair = |b: &mut Builder| {
        let int = b.int("int", 4, true);
        b.structure("pair___x", &[Field::new("b", int)])
    };
    let ask = |kernel: Kernel| relocated(&[mov(1, 0)], pair, "0:0", BYTE_OFFSET, &kernel);
    assert_eq!(ask(with("b", 1)), Ok(vec![mov(1, 4)]));
    assert_eq!(ask(with("other", 2)), Ok(vec![mov(1, 4)]));
    let message = ask(with("b", 2)).expect_err("two places");
    assert!(message.contains("field offset ambiguity: 64 != 32"), "{message}");
}

/// A union of a type with itself, both without a name.
fn around(ty: TypeId) -> Type {
    let member = Member { name: Name::NONE, ty, bit_offset: 0, bits: 0 };
    Type::Union(Composite { name: Name::NONE, size: 0, members: vec![member; 2] })
}

#[test]
fn types_without_an_end_are_left() {
    let local = |b: &mut Builder| {
        let int = b.int("int", 4, true);
        b.structure("tree", &[Field::new("leaf", int)])
    };
    // An anonymous member that is its own structure.
    let mut b = Builder::new();
    let itself = b.add(around(1));
    b.structure("tree", &[Field::new("", itself).at_bit(0)]);
    let kernel = Kernel { btf: b.finish().expect("types"), ..Kernel::default() };
    let message = relocated(&[mov(1, 0)], local, "0:0", BYTE_OFFSET, &kernel).expect_err("no end");
    assert!(message.contains("more than 64 steps"), "{message}");
    // Two of each of two of each: 2^60 ways.
    let mut b = Builder::new();
    let mut inner = b.structure("", &[]);
    for _ in 0..60 {
        inner = b.add(around(inner));
    }
    b.structure("tree", &[Field::new("", inner).at_bit(0)]);
    let kernel = Kernel { btf: b.finish().expect("types"), ..Kernel::default() };
    let message = relocated(&[mov(1, 0)], local, "0:0", BYTE_OFFSET, &kernel).expect_err("no end");
    assert!(message.contains("comparisons"), "{message}");
    // A typedef of itself.
    let mut b = Builder::new();
    b.typedef("again", 1);
    let name = b.text("tree");
    let member = Member { name: b.text("leaf"), ty: 1, bit_offset: 0, bits: 0 };
    b.add(Type::Struct(Composite { name, size: 4, members: vec![member] }));
    let kernel = Kernel { btf: b.finish().expect("types"), ..Kernel::default() };
    let message = relocated(&[mov(1, 0)], local, "0:0", BYTE_OFFSET, &kernel).expect_err("no end");
    assert!(message.contains("has no end"), "{message}");
}
