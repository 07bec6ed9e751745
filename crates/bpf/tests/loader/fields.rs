//! Fields that what stands in for a kernel lacks: a scheduler that always reads one is refused, and
//! where one may never be read, the message says who lacks it.

use scxlab_bpf::Insn;
use scxlab_bpf::btf::{Field, TypeId};
use scxlab_bpf::object::load;

use crate::elf::{self, EXIT, File, call, load as ldx, mov};
use crate::externs::Engine;
use crate::sample::{BYTE_OFFSET, FIELD_EXISTS, R_ABS, R_CALL, Types, Vars, kernel, types};

/// Another relocation of CO-RE.
const BYTE_SIZE: u32 = 1;

const SECTION: &str = "struct_ops/enqueue";

/// A relocation: instruction, way from a task, and kind.
type Core = (u64, &'static str, u32);

/// Reads `task_struct.gone`, as the first and only thing that it does.
const READ: [Insn; 3] = [Insn { code: 0x79, dst: 1, src: 1, off: 24, imm: 0 }, ZERO, EXIT];
const ZERO: Insn = Insn { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 };

/// A scheduler whose operation at this offset, `enqueue` or `init`, has these instructions.
fn operation(offset: u64, insns: &[Insn], core: &[Core]) -> (File, Types) {
    let mut file = File::new();
    let types = types(&mut file);
    let (enqueue, start) = file.function(SECTION, "program", insns);
    let mut vars = Vars::new(&mut file, ".struct_ops.link", elf::PROGBITS);
    vars.var("ops", types.ops, &[0; 168]);
    vars.finish();
    let ops = file.section(".struct_ops.link", elf::PROGBITS, 0);
    file.relocations.insert(ops, vec![(offset, enqueue, R_ABS)]);
    for &(insn, access, kind) in core {
        file.core(SECTION, start + 8 * insn, types.task, access, kind);
    }
    (file, types)
}

fn enqueue(insns: &[Insn], core: &[Core]) -> File {
    operation(8, insns, core).0
}

/// What it is refused for, or else what is said where it is not to be reached.
fn lacks(file: File) -> Result<Vec<String>, Vec<String>> {
    match load(&file.write(), &Engine(kernel())) {
        Ok(image) if !image.lacking.is_empty() => Err(image.lacking),
        Ok(image) => Ok(image.poison.into_iter().map(|poison| poison.text).collect()),
        Err(other) => panic!("{other}"),
    }
}

/// `if dst == 0 goto`
fn unless(dst: u8, by: i16) -> Insn {
    Insn { code: 0x15, dst, off: by, ..Insn::default() }
}

#[test]
fn a_field_that_is_always_read_is_needed() {
    let core = [(0, "0:2", BYTE_OFFSET)];
    let who = "the engine, as Linux 7.2, has no such field";
    let says = format!("field 'task_struct.gone': {who} (used by program");
    assert_eq!(lacks(enqueue(&READ, &core)), Err(vec![format!("{says})")]));
    let mut file = enqueue(&READ, &core);
    file.lines.push((SECTION.into(), 0, "sample.bpf.c".into(), "\tp->gone;".into(), 10));
    assert_eq!(lacks(file), Err(vec![format!("{says} at sample.bpf.c:10)")]));
    // What is a kernel may be of another version: its verifier tells what it does not take.
    let image = load(&enqueue(&READ, &core).write(), &kernel()).expect("it loads");
    assert!(image.poison[0].text.ends_with("struct task_struct.gone (0:2 @ offset 24)"));
}

#[test]
fn a_field_that_may_never_be_read_is_told_there() {
    let core = [(1, "0:2", BYTE_OFFSET)];
    let [read, zero, exit] = READ;
    let text = |file: File| lacks(file).expect("it loads").remove(0);
    let sometimes = text(enqueue(&[unless(1, 1), read, zero, exit], &core));
    let says =
        "struct task_struct.gone (0:2 @ offset 24): the engine, as Linux 7.2, has no such field";
    assert!(sometimes.ends_with(says), "{sometimes}");
    // Both ways there is one.
    let both = [unless(1, 2), read, exit, mov(0, 4), exit];
    let file = enqueue(&both, &[core[0], (3, "0:1:2", BYTE_SIZE)]);
    let says = |field: &str| {
        format!("field '{field}': the engine, as Linux 7.2, has no such field (used by program)")
    };
    let both = vec![says("task_struct.gone"), says("task_struct.scx.gone")];
    assert_eq!(lacks(file), Err(both));
    // A program that is no operation may never be called.
    let (mut file, types) = operation(8, &[zero, exit], &[]);
    file.function("syscall", "on_demand", &READ);
    file.core("syscall", 0, types.task, "0:2", BYTE_OFFSET);
    assert_eq!(text(file).split(": ").last(), Some("the engine, as Linux 7.2, has no such field"));
}

#[test]
fn a_function_that_is_always_called_is_a_part_of_it() {
    let with = |insns: &[Insn], at: u64| {
        let (mut file, types) = operation(8, insns, &[]);
        let (reads, _) = file.function(".text", "reads", &READ);
        file.core(".text", 0, types.task, "0:2", BYTE_OFFSET);
        file.refer(SECTION, at, reads, R_CALL);
        lacks(file)
    };
    let says =
        "field 'task_struct.gone': the engine, as Linux 7.2, has no such field (used by reads)";
    assert_eq!(with(&[call(-1), mov(0, 0), EXIT], 0), Err(vec![says.to_owned()]));
    assert!(with(&[unless(1, 1), call(-1), mov(0, 0), EXIT], 8).is_ok());
}

#[test]
fn a_field_that_is_asked_for_is_not_needed() {
    let asks = [mov(2, 1), unless(2, 1), ldx(8, 1, 1, 24), mov(0, 0), EXIT];
    let core = [(0, "0:2", FIELD_EXISTS), (2, "0:2", BYTE_OFFSET)];
    assert!(lacks(enqueue(&asks, &core)).is_ok());
    // Of a field that is there it says nothing of another one.
    let [read, zero, exit] = READ;
    let asks = [mov(2, 1), unless(2, 3), read, zero, exit, zero, exit];
    assert!(lacks(enqueue(&asks, &[(0, "0:0", FIELD_EXISTS), core[1]])).is_err());
    assert!(lacks(enqueue(&asks, &core)).is_ok());
}

#[test]
fn a_field_of_a_type_that_is_not_there_is_left_to_the_program() {
    let (mut file, _) = operation(8, &[ldx(4, 1, 1, 0), mov(0, 0), EXIT], &[]);
    let int = file.btf.int("int", 4, true);
    let gone: TypeId = file.btf.structure("no_such_type", &[Field::new("field", int)]);
    file.core(SECTION, 0, gone, "0:0", BYTE_OFFSET);
    let text = lacks(file).expect("it loads").remove(0);
    assert!(text.ends_with("struct no_such_type.field (0:0 @ offset 0)"), "{text}");
}
