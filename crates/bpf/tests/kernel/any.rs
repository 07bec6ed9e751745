//! Whatever a program gives to a function of the kernel, nothing panics or hangs: it gets a result,
//! or its scheduler is ended.

use scxlab_bpf::abi::Version;
use scxlab_bpf::sched::LoadError;

use crate::build::{Code, Ran, enqueue, kernel, load, work};

/// Puts something into r1 to r5, which differs from one to the other.
fn arguments(pattern: u32) -> Code {
    (1..=5).fold(Code::new(), |code, reg| match (pattern + reg) % 12 {
        0 => code.mov(reg as u8, 0),
        1 => code.mov(reg as u8, -1),
        2 => code.imm64(reg as u8, u64::MAX - 7),
        3 => code.imm64(reg as u8, 1 << 63 | 2),
        4 => code.mov(reg as u8, 1),
        5 => code.frame(reg as u8, -64),
        6 => code.frame(reg as u8, -8),
        7 => code.bss(reg as u8, 504),
        8 => code.arena(reg as u8),
        9 => code.imm64(reg as u8, i32::MAX as u64),
        10 => code.func(reg as u8, "cb.less"),
        // What the operation is about.
        _ => code.copy(reg as u8, 6),
    })
}

#[test]
fn any_arguments_do() {
    let abi = kernel();
    assert_eq!(abi.version(), Version::default());
    let names: Vec<String> = abi.kfuncs().map(|(name, _)| name.to_owned()).collect();
    let mut ran = 0;
    for name in names {
        let name: &'static str = Box::leak(name.into_boxed_str());
        for pattern in 0..12 {
            let op = ["init", "running", "dispatch", "select_cpu"][pattern as usize % 4];
            // In memory too there is something.
            let code = Code::op()
                .copy(8, 6)
                .mov(0, -3)
                .frame(1, -64)
                .store(1, 0, 0)
                .store(1, 16, 6)
                .bss(7, 504)
                .store(7, 0, 6)
                .store(7, 8, 7)
                .then(arguments(pattern))
                .call(name)
                .copy(6, 0)
                .then(arguments(pattern + 5))
                .call(name)
                .mov(0, 0)
                .exit();
            let less = Code::new().load(0, 1, 0).exit();
            let sched = match load(&[enqueue(), (op, code), ("cb.less", less)]) {
                Ok(sched) => sched,
                // It is refused by its name.
                Err(LoadError::Missing(_)) => continue,
                // Not from here.
                Err(LoadError::Refused(_)) => continue,
                Err(err) => panic!("{name}: {err}"),
            };
            Ran::new(sched, work(), 4);
            ran += 1;
        }
    }
    assert!(ran > 1500, "{ran}");
}
