//! How fast the machine is: instructions a second on one core, beside rbpf's interpreter on the
//! same programs. Run with `cargo bench -p scxlab-bpf`.
//!
//! Both check every access. Both run a program from its start to its end, with what that takes; of
//! ours, fuel is counted too. A round runs each of them once, so that they see the same machine;
//! the figures are those of the best round. Both must give the same result.

use std::hint::black_box;
use std::time::{Duration, Instant};

use scxlab_bpf::image::Function;
use scxlab_bpf::machine::{Binding, Code, Memory, NoKernel, Region, RegionId, Stop, Thread, run};
use scxlab_bpf::{Image, Insn};

/// Wall time for each program.
const TIME: Duration = Duration::from_secs(2);
/// Bytes of memory that a program gets, in r1. The large one is kept in pages.
const MEMORY: usize = 4096;
const LARGE: usize = 1 << 20;

/// A program's name, its text, and the size of its memory.
const PROGRAMS: [(&str, &str, usize); 6] = [
    // Arithmetic of both widths, nothing else.
    (
        "arithmetic",
        "mov64 r2, 20000
         lddw r0, 0x9e3779b97f4a7c15
         mov64 r3, 7
         add64 r0, r3
         mul64 r0, 31
         mov64 r4, r0
         rsh64 r4, 29
         xor64 r0, r4
         add32 r3, r4
         and64 r3, 0xffff
         lsh64 r4, 3
         sub64 r0, r4
         or64 r3, 1
         sub64 r2, 1
         jne r2, 0, -12
         exit",
        MEMORY,
    ),
    // Variables that live on the stack, as clang -O0 has them and spills do.
    (
        "stack",
        "mov64 r2, 20000
         mov64 r0, 1
         stxdw [r10-8], r0
         stxdw [r10-16], r2
         stxdw [r10-24], r0
         ldxdw r3, [r10-8]
         ldxdw r4, [r10-24]
         add64 r3, r4
         stxdw [r10-24], r3
         ldxw r5, [r10-20]
         stxw [r10-32], r5
         ldxdw r2, [r10-16]
         sub64 r2, 1
         stxdw [r10-16], r2
         jne r2, 0, -10
         ldxdw r0, [r10-24]
         exit",
        MEMORY,
    ),
    // jhash() of 12 bytes, over and over, from memory.
    (
        "jhash",
        "mov64 r9, r1
         mov64 r8, 4000
         mov32 r3, -559038729
         mov32 r4, -559038729
         mov32 r5, -559038729
         ldxw r6, [r9+0]
         add32 r3, r6
         ldxw r6, [r9+4]
         add32 r4, r6
         ldxw r6, [r9+8]
         add32 r5, r6
         sub32 r3, r5
         mov32 r6, r5
         lsh32 r6, 4
         mov32 r7, r5
         rsh32 r7, 28
         or32 r6, r7
         xor32 r3, r6
         add32 r5, r4
         sub32 r4, r3
         mov32 r6, r3
         lsh32 r6, 6
         mov32 r7, r3
         rsh32 r7, 26
         or32 r6, r7
         xor32 r4, r6
         add32 r3, r5
         sub32 r5, r4
         mov32 r6, r4
         lsh32 r6, 8
         mov32 r7, r4
         rsh32 r7, 24
         or32 r6, r7
         xor32 r5, r6
         add32 r4, r3
         sub32 r3, r5
         mov32 r6, r5
         lsh32 r6, 16
         mov32 r7, r5
         rsh32 r7, 16
         or32 r6, r7
         xor32 r3, r6
         add32 r5, r4
         stxw [r9+12], r5
         sub64 r8, 1
         jne r8, 0, -41
         mov64 r0, r5
         exit",
        MEMORY,
    ),
    // Counters in the values of a map, 64 bytes each.
    (
        "map values",
        "mov64 r2, 20000
         mov64 r6, 0
         mov64 r3, r6
         and64 r3, 63
         lsh64 r3, 6
         add64 r3, r1
         ldxdw r4, [r3+0]
         add64 r4, 1
         stxdw [r3+0], r4
         ldxw r5, [r3+8]
         xor64 r5, r4
         stxw [r3+8], r5
         ldxb r5, [r3+16]
         add64 r5, 3
         stxb [r3+16], r5
         add64 r6, 7
         sub64 r2, 1
         jne r2, 0, -16
         ldxdw r0, [r1+64]
         exit",
        MEMORY,
    ),
    // The same in a map of a megabyte, all over it.
    (
        "large map",
        "mov64 r2, 20000
         mov64 r6, 0
         mov64 r3, r6
         and64 r3, 16383
         lsh64 r3, 6
         add64 r3, r1
         ldxdw r4, [r3+0]
         add64 r4, 1
         stxdw [r3+0], r4
         ldxw r5, [r3+8]
         xor64 r5, r4
         stxw [r3+8], r5
         ldxb r5, [r3+16]
         add64 r5, 3
         stxb [r3+16], r5
         add64 r6, 2731
         sub64 r2, 1
         jne r2, 0, -16
         ldxdw r0, [r1+64]
         exit",
        LARGE,
    ),
    // A list in memory: each load gives the next one's place.
    (
        "pointer chase",
        "mov64 r2, 30000
         mov64 r3, r1
         ldxdw r4, [r3+0]
         add64 r4, r1
         mov64 r3, r4
         add64 r0, r4
         sub64 r2, 1
         jne r2, 0, -6
         sub64 r3, r1
         mov64 r0, r3
         exit",
        MEMORY,
    ),
];

fn memory(name: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    if name == "pointer chase" {
        // One ring over all 64 places, in strides that do not follow each other.
        for place in 0..64_usize {
            let next = (place + 27) % 64 * 64;
            bytes[place * 64..][..8].copy_from_slice(&(next as u64).to_le_bytes());
        }
    } else {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (i * 31) as u8;
        }
    }
    bytes
}

fn image(text: &str) -> (Vec<u8>, Image) {
    let bytes = rbpf::assembler::assemble(text).expect("the programs above assemble");
    let insns: Vec<Insn> = bytes.as_chunks().0.iter().map(|bytes| Insn::read(*bytes)).collect();
    let function = Function { name: "bench".into(), start: 0, len: insns.len() };
    (bytes, Image { insns, functions: vec![function], ..Image::default() })
}

struct Ours {
    code: Code,
    memory: Memory,
    thread: Thread,
    region: RegionId,
}

impl Ours {
    fn new(image: &Image, bytes: Vec<u8>) -> Self {
        let mut memory = Memory::new(1 << 24);
        let code = Code::decode(image, &Binding::default()).expect("they are instructions");
        let region = memory.alloc(Region::new("memory"), bytes).expect("there is room");
        let thread = Thread::new(&mut memory, "the bench").expect("there is room");
        Self { code, memory, thread, region }
    }

    /// The result, and the number of instructions.
    fn run(&mut self) -> (u64, u64) {
        let args = [self.region.base(), 0, 0, 0, 0];
        self.thread.start(&mut self.memory, &self.code, 0, args).expect("it is idle");
        let mut fuel = u64::MAX;
        match run(&mut self.thread, &self.code, &mut self.memory, &mut NoKernel, &mut fuel) {
            Stop::Exit(result) => (result, u64::MAX - fuel),
            stop => panic!("it ends: {stop:?}"),
        }
    }
}

/// What it costs to stop after each instruction and go on, in ns.
fn stopping() -> f64 {
    let (_, text, size) = PROGRAMS[0];
    let mut ours = Ours::new(&image(text).1, memory("", size));
    let args = [ours.region.base(), 0, 0, 0, 0];
    ours.thread.start(&mut ours.memory, &ours.code, 0, args).expect("it is idle");
    let start = Instant::now();
    let mut stops = 0;
    loop {
        let stop = run(&mut ours.thread, &ours.code, &mut ours.memory, &mut NoKernel, &mut 1);
        if stop != Stop::OutOfFuel {
            return start.elapsed().as_secs_f64() * 1e9 / f64::from(stops);
        }
        stops += 1;
    }
}

fn main() {
    println!(
        "{:<14} {:>12} {:>14} {:>14} {:>7}",
        "program", "instructions", "ours", "rbpf", "ratio"
    );
    let mut product = 1.0;
    for (name, text, size) in PROGRAMS {
        let (bytes, image) = image(text);
        let mut ours = Ours::new(&image, memory(name, size));
        let theirs = rbpf::EbpfVmRaw::new(Some(&bytes)).expect("rbpf takes the program");
        let mut shared = memory(name, size);

        let (mut best, mut best_theirs) = (f64::MAX, f64::MAX);
        let mut instructions = 0;
        let start = Instant::now();
        while start.elapsed() < TIME {
            let at = Instant::now();
            let (result, count) = black_box(&mut ours).run();
            best = best.min(at.elapsed().as_secs_f64());
            instructions = count;

            let at = Instant::now();
            let expected =
                black_box(&theirs).execute_program(&mut shared).expect("rbpf runs the program");
            best_theirs = best_theirs.min(at.elapsed().as_secs_f64());
            assert_eq!(result, expected, "{name}: both give the same result");
        }
        let rate = |seconds: f64| instructions as f64 / seconds / 1e6;
        let (ours, theirs) = (rate(best), rate(best_theirs));
        println!(
            "{name:<14} {instructions:>12} {ours:>9.0} M/s {theirs:>9.0} M/s {:>7.2}",
            ours / theirs
        );
        product *= ours / theirs;
    }
    println!(
        "geometric mean of the ratios: {:.2}",
        f64::powf(product, 1.0 / PROGRAMS.len() as f64)
    );
    println!("to stop after an instruction and go on: {:.0} ns", stopping());
}
