//! Programs of raw instructions: the verifier's verdict on each, and what it does when it is run
//! (`BPF_PROG_TEST_RUN`).

use std::ffi::{c_char, c_int, c_void};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::ptr;

use anyhow::{Context as _, Result, bail, ensure};
use libbpf_rs::libbpf_sys::{self as sys, bpf_insn};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};
use scxlab_protocol::{Bytes, Record, TestData, TestOutcome, TestProgram, TestRuns};

use crate::report::Report;
use crate::stop;

/// Programs whose outcomes make a record.
const AT_ONCE: usize = 20;

/// Bytes that the verifier may say.
const LOG: usize = 1 << 20;

/// Lines of them that are told.
const LINES: usize = 4;

/// `BPF_LD | BPF_IMM | BPF_DW`, a load of two instructions.
const LOAD_WIDE: u8 = 0x18;

/// Runs all programs of a file.
///
/// # Errors
/// It has none, or this kernel cannot run any.
pub fn run(file: &Path, report: &Report) -> Result<()> {
    let name = file.display();
    let text = fs::read(file).with_context(|| format!("{name}: cannot read it"))?;
    let runs: TestRuns =
        serde_json::from_slice(&text).with_context(|| format!("{name}: no programs"))?;
    let maps = Maps::new(&runs)?;
    for programs in runs.programs.chunks(AT_ONCE) {
        stop::check()?;
        let outcomes = programs.iter().map(|program| maps.outcome(program)).collect::<Result<_>>();
        report.say(&Record::TestRuns { outcomes: outcomes? });
    }
    Ok(())
}

/// What programs share with the outside.
struct Maps {
    /// Map 0.
    array: MapHandle,
    /// Map 1.
    arena: Arena,
}

impl Maps {
    fn new(runs: &TestRuns) -> Result<Self> {
        let mut opts = sys::bpf_map_create_opts::default();
        opts.sz = size_of_val(&opts) as _;
        let array = MapHandle::create(MapType::Array, Some("values"), 4, runs.value_size, 1, &opts);
        Ok(Self { array: array.context("the array")?, arena: Arena::new(runs.arena_at)? })
    }

    fn outcome(&self, program: &TestProgram) -> Result<TestOutcome> {
        let insns = self.instructions(&program.insns.0)?;
        let program_fd = match load(&insns, &mut []) {
            Ok(fd) => fd,
            Err(errno) => {
                let mut log = vec![0; LOG];
                let _ = load(&insns, &mut log);
                return Ok(TestOutcome::Refused { errno, why: last_lines(&log) });
            }
        };
        let runs = program.inputs.iter().map(|input| self.run(&program_fd, input));
        Ok(TestOutcome::Ran { runs: runs.collect::<Result<_>>()?, jited: is_jited(&program_fd)? })
    }

    /// With the maps' file descriptors in the place of their numbers.
    fn instructions(&self, bytes: &[u8]) -> Result<Vec<bpf_insn>> {
        let (insns, []) = bytes.as_chunks::<8>() else { bail!("half an instruction") };
        let mut second = false;
        let insn = |&[code, regs, off0, off1, imm @ ..]: &[u8; 8]| {
            let mut insn = bpf_insn {
                code,
                off: i16::from_le_bytes([off0, off1]),
                imm: i32::from_le_bytes(imm),
                ..bpf_insn::default()
            };
            insn.set_dst_reg(regs & 0xf);
            insn.set_src_reg(regs >> 4);
            let wide = code == LOAD_WIDE && !second;
            if wide
                && matches!(
                    u32::from(insn.src_reg()),
                    sys::BPF_PSEUDO_MAP_FD | sys::BPF_PSEUDO_MAP_VALUE
                )
            {
                insn.imm = match insn.imm {
                    0 => self.array.as_fd().as_raw_fd(),
                    1 => self.arena.fd.as_raw_fd(),
                    other => bail!("there is no map {other}"),
                };
            }
            second = wide;
            Ok(insn)
        };
        insns.iter().map(insn).collect()
    }

    fn run(&self, program: &OwnedFd, input: &TestData) -> Result<(u32, TestData)> {
        let key = 0_u32.to_ne_bytes();
        self.array.update(&key, &input.value.0, MapFlags::ANY).context("the array's value")?;
        self.arena.write(&input.arena.0)?;
        let mut ctx = input.ctx.0.clone();
        let mut opts = sys::bpf_test_run_opts {
            ctx_in: ctx.as_mut_ptr().cast(),
            ctx_size_in: u32::try_from(ctx.len())?,
            ..Default::default()
        };
        opts.sz = size_of_val(&opts) as _;
        // SAFETY: the kernel reads and writes `ctx`, which has this many bytes, and nothing else.
        let result = unsafe { sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
        ensure!(result == 0, "the kernel does not run a program: error {result}");
        let value = self.array.lookup(&key, MapFlags::ANY)?.context("the array's value is gone")?;
        let arena = Bytes(self.arena.read(input.arena.0.len()));
        Ok((opts.retval, TestData { ctx: Bytes(ctx), value: Bytes(value), arena }))
    }
}

/// Loads a program; the verifier writes what it says into `log`, unless that is empty.
fn load(insns: &[bpf_insn], log: &mut [u8]) -> Result<OwnedFd, i32> {
    let mut opts =
        sys::bpf_prog_load_opts { prog_flags: sys::BPF_F_SLEEPABLE, ..Default::default() };
    opts.sz = size_of_val(&opts) as _;
    if !log.is_empty() {
        opts.log_buf = log.as_mut_ptr().cast::<c_char>();
        opts.log_size = log.len() as u32;
        opts.log_level = 1;
    }
    // SAFETY: instructions, texts and log are as long as is said, and outlive the call.
    let result = unsafe {
        sys::bpf_prog_load(
            sys::BPF_PROG_TYPE_SYSCALL,
            c"trial".as_ptr(),
            c"GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as _,
            &raw mut opts,
        )
    };
    if result < 0 {
        return Err(-result);
    }
    // SAFETY: it is a new file descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

fn is_jited(program: &OwnedFd) -> Result<bool> {
    let mut info = sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `len` bytes into `info`, which asks for no more.
    let result =
        unsafe { sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len) };
    ensure!(result == 0, "the kernel does not describe a program: error {result}");
    Ok(info.jited_prog_len > 0)
}

fn last_lines(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log.split(|&byte| byte == 0).next().unwrap_or_default());
    // The last one says how much work it was.
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("processed ")).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// An arena, and where this process has it.
struct Arena {
    fd: OwnedFd,
    at: *mut u8,
}

impl Arena {
    const PAGES: u32 = 16;
    const PAGE: usize = 4096;

    fn new(user_addr: u64) -> Result<Self> {
        let mut opts = sys::bpf_map_create_opts {
            map_flags: sys::BPF_F_MMAPABLE,
            map_extra: user_addr,
            ..Default::default()
        };
        opts.sz = size_of_val(&opts) as _;
        // SAFETY: name and options outlive the call.
        let result = unsafe {
            let name = c"arena".as_ptr();
            sys::bpf_map_create(sys::BPF_MAP_TYPE_ARENA, name, 0, 0, Self::PAGES, &raw const opts)
        };
        ensure!(result >= 0, "the arena: error {result}");
        // SAFETY: it is a new file descriptor, which nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(result) };
        let len = Self::PAGES as usize * Self::PAGE;
        let wanted = ptr::without_provenance_mut::<c_void>(usize::try_from(user_addr)?);
        let (rights, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let flags: c_int = how | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: where something is mapped already, this fails.
        let at = unsafe { libc::mmap(wanted, len, rights, flags, fd.as_raw_fd(), 0) };
        ensure!(at == wanted, "the arena: cannot map it at {user_addr:#x}");
        Ok(Self { fd, at: at.cast() })
    }

    /// Fills its first page: with these bytes, and zeros.
    fn write(&self, bytes: &[u8]) -> Result<()> {
        ensure!(bytes.len() <= Self::PAGE, "an arena with more than a page");
        // SAFETY: the page is mapped until the end, and no program runs.
        unsafe {
            self.at.write_bytes(0, Self::PAGE);
            self.at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(())
    }

    /// Its first bytes.
    fn read(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len.min(Self::PAGE)];
        // SAFETY: the page is mapped until the end, and no program runs.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(self.at, bytes.len()) };
        bytes
    }
}
