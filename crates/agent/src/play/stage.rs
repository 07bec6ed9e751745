//! The stage: the one piece of memory that all tasks of a workload, their keeper and the player
//! share. It is a memfd, which everyone inherits as file descriptor 0; the kernel frees it with
//! its last user.
//!
//! Its first part is written once, before anyone plays: the program, in a form that is read where
//! it lies, because images are exec'd a hundred times a second and have no time to parse. The rest
//! is atomics, all zero at first.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

use scxlab_engine::Cpumask;
use scxlab_engine::program::{Index, Instr, Program, Who};
use scxlab_protocol::Counts;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::script::{Op, policy_number};

/// Where tasks find the stage.
pub(super) const STAGE_FD: RawFd = 0;

/// "scxstage", and the form's version.
const MAGIC: u64 = u64::from_be_bytes(*b"scxstag1");

/// For [`StartRow`]: none.
pub(super) const NONE: u32 = u32::MAX;

/// The most tasks that can be meant by name at one time.
pub(super) const SLOTS: usize = 1 << 17;

/// The parts of the stage, in their order.
#[derive(Clone, Copy)]
enum Part {
    Code,
    Masks,
    Texts,
    Bytes,
    Starts,
    Needs,
    Meant,
    Board,
    Mutexes,
    Conds,
    Barriers,
    Timers,
    Refusals,
    Slots,
}

const PARTS: usize = Part::Slots as usize + 1;

/// The size of one row of each part.
const ROW: [usize; PARTS] = [
    size_of::<Op>(),
    size_of::<Cpumask>(),
    size_of::<Text>(),
    1,
    size_of::<StartRow>(),
    size_of::<u32>(),
    1,
    size_of::<Board>(),
    size_of::<AtomicU32>(),
    size_of::<AtomicU32>(),
    size_of::<AtomicU64>(),
    size_of::<AtomicU64>(),
    size_of::<AtomicU64>(),
    size_of::<Slot>(),
];

/// Every part begins at a multiple of this.
const ALIGN: usize = 64;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: u64,
    seed: u64,
    /// How many of the texts are names; the others are directories of cgroups.
    names: u64,
    rows: [u64; PARTS],
}

/// Where a text lies in the part of bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Text {
    at: u32,
    len: u32,
}

/// A process that exists at the start, as `program::Start`; [`NONE`] is nothing.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub(super) struct StartRow {
    pub entry: u32,
    pub name: u32,
    pub policy: u32,
    pub nice: i32,
    pub mask: u32,
    pub cgroup: u32,
    pub at: u64,
}

/// What is known of the play as a whole.
#[repr(C)]
pub(super) struct Board {
    /// The process group of all tasks; 0 before there is one.
    pub group: AtomicI32,
    /// The keeper's pid.
    pub keeper: AtomicI32,
    /// Start entries that have been forked, or could not be.
    pub started: AtomicU32,
    /// Slots that were ever in use.
    pub slots_used: AtomicU32,
    /// Where to look for a free slot next.
    pub slots_cursor: AtomicU32,
    _pad: u32,
    forked: AtomicU64,
    execs: AtomicU64,
    nonleader_execs: AtomicU64,
    forks_failed: AtomicU64,
}

/// Something that the board counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Forked,
    Exec { nonleader: bool },
    ForkFailed,
}

/// One live task that may be meant by name. See the module `registry`.
#[repr(C)]
pub(super) struct Slot {
    /// The kernel's `struct robust_list`.
    pub next: AtomicU64,
    /// The owner's tid, or what the kernel leaves there when the owner is dead.
    pub word: AtomicU32,
    /// The name under which it was started.
    pub name: AtomicU32,
    /// Its tid and its process's pid, in one word, for the name to be read after it.
    pub who: AtomicU64,
}

struct Layout {
    at: [usize; PARTS],
    size: usize,
}

impl Layout {
    fn new(rows: &[u64; PARTS]) -> Option<Self> {
        let mut at = [0; PARTS];
        let mut end = size_of::<Header>();
        for part in 0..PARTS {
            at[part] = end.checked_next_multiple_of(ALIGN)?;
            let bytes = usize::try_from(rows[part]).ok()?.checked_mul(ROW[part])?;
            end = at[part].checked_add(bytes)?;
        }
        Some(Self { at, size: end })
    }
}

/// The stage, mapped.
pub(super) struct Stage {
    base: NonNull<u8>,
    header: Header,
    layout: Layout,
}

// SAFETY: the mapping is there for as long as the Stage is, its first part is never written again,
// and the rest is only ever seen as atomics.
unsafe impl Send for Stage {}
// SAFETY: as above.
unsafe impl Sync for Stage {}

impl Stage {
    /// A new stage, for `program`. `cgroups` are the directories of the program's and, last, of
    /// the one that they are below; empty if it uses none.
    pub fn create(program: &Program, cgroups: &[String], seed: u64) -> io::Result<(Self, File)> {
        let mut masks = Vec::new();
        let code: Vec<Op> = program.code.iter().map(|i| Op::new(i, &mut masks)).collect();
        let starts: Vec<StartRow> = program
            .start
            .iter()
            .map(|start| StartRow {
                entry: start.entry.0,
                name: start.name,
                policy: policy_number(start.policy),
                nice: start.nice.into(),
                mask: start.affinity.as_ref().map_or(NONE, |mask| {
                    masks.push(**mask);
                    masks.len() as u32 - 1
                }),
                cgroup: start.cgroup.unwrap_or(NONE),
                at: start.at.0,
            })
            .collect();
        let (mut texts, mut bytes) = (Vec::new(), Vec::new());
        for text in program.names.iter().chain(cgroups) {
            texts.push(Text { at: bytes.len() as u32, len: text.len() as u32 });
            bytes.extend_from_slice(text.as_bytes());
        }
        let meant = meant_by_name(program);
        let slots = if meant.contains(&1) { SLOTS } else { 0 };
        let parts: [(&[u8], usize); PARTS] = [
            (code.as_bytes(), code.len()),
            (masks.as_bytes(), masks.len()),
            (texts.as_bytes(), texts.len()),
            (&bytes, bytes.len()),
            (starts.as_bytes(), starts.len()),
            (program.barriers.as_bytes(), program.barriers.len()),
            (&meant, meant.len()),
            (&[], 1),
            (&[], program.mutexes as usize),
            (&[], program.conds as usize),
            (&[], program.barriers.len()),
            (&[], program.timers as usize),
            (&[], code.len() + starts.len()),
            (&[], slots),
        ];
        let names = program.names.len() as u64;
        let header = Header { magic: MAGIC, seed, names, rows: parts.map(|(_, rows)| rows as u64) };
        let layout = Layout::new(&header.rows).ok_or(io::ErrorKind::OutOfMemory)?;
        let file = memfd()?;
        file.set_len(layout.size as u64)?;
        file.write_all_at(header.as_bytes(), 0)?;
        for (part, (bytes, _)) in parts.iter().enumerate() {
            file.write_all_at(bytes, layout.at[part] as u64)?;
        }
        let stage = Self::map(file.as_raw_fd(), header, layout)?;
        Ok((stage, file))
    }

    /// The stage that this process has inherited.
    pub fn inherited() -> io::Result<Self> {
        let no_stage = || io::Error::new(io::ErrorKind::InvalidData, "there is no stage");
        let mut bytes = [0; size_of::<Header>()];
        // SAFETY: `bytes` is that long. A descriptor that is no stage gives an error or other bytes.
        let got = unsafe { libc::pread(STAGE_FD, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        let header = Header::read_from_bytes(&bytes).map_err(|_| no_stage())?;
        let boards = header.rows[Part::Board as usize];
        if got != bytes.len() as isize || header.magic != MAGIC || boards != 1 {
            return Err(no_stage());
        }
        let layout = Layout::new(&header.rows).ok_or_else(no_stage)?;
        Self::map(STAGE_FD, header, layout)
    }

    fn map(fd: RawFd, header: Header, layout: Layout) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), layout.size, prot, libc::MAP_SHARED, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, header, layout })
    }

    /// The rows of a part that is not written any more.
    fn fixed<T: FromBytes + Immutable + KnownLayout>(&self, part: Part) -> &[T] {
        let rows = self.header.rows[part as usize] as usize;
        // SAFETY: `layout` places these bytes within the mapping, and nobody writes to them after
        // `create`, which alone knows the file until it is done.
        let bytes = unsafe {
            let at = self.base.as_ptr().add(self.layout.at[part as usize]);
            std::slice::from_raw_parts(at, rows * ROW[part as usize])
        };
        <[T]>::ref_from_bytes(bytes).unwrap_or_default()
    }

    /// The rows of a part that all write to.
    ///
    /// # Safety
    /// `T` is the type that `ROW` gives this part, of atomics only.
    unsafe fn shared<T>(&self, part: Part) -> &[T] {
        let rows = self.header.rows[part as usize] as usize;
        // SAFETY: `layout` places so many rows within the mapping, aligned to 64 bytes, and as no
        // other type is used for them, all that is ever done to them is atomic. Any bytes are
        // valid atomics.
        unsafe {
            let at = self.base.as_ptr().add(self.layout.at[part as usize]);
            std::slice::from_raw_parts(at.cast(), rows)
        }
    }

    pub fn seed(&self) -> u64 {
        self.header.seed
    }

    /// Nothing past the end of the program.
    pub fn instr(&self, pc: u32) -> Option<Instr> {
        self.fixed::<Op>(Part::Code).get(pc as usize)?.read(self.masks())
    }

    pub fn code_len(&self) -> usize {
        self.header.rows[Part::Code as usize] as usize
    }

    pub fn masks(&self) -> &[Cpumask] {
        self.fixed(Part::Masks)
    }

    pub fn starts(&self) -> &[StartRow] {
        self.fixed(Part::Starts)
    }

    pub fn name(&self, name: Index) -> &str {
        self.text(name as usize)
    }

    /// The directory of a cgroup.
    pub fn cgroup(&self, cgroup: Index) -> &str {
        self.text(self.header.names as usize + cgroup as usize)
    }

    /// The cgroup that those of the program are below, if it has any: behind them in the list.
    pub fn base_cgroup(&self) -> Option<&str> {
        let texts = self.header.rows[Part::Texts as usize] as usize;
        (texts > self.header.names as usize).then(|| self.text(texts - 1))
    }

    fn text(&self, i: usize) -> &str {
        let bytes = self.fixed::<Text>(Part::Texts).get(i).and_then(|text| {
            self.fixed::<u8>(Part::Bytes).get(text.at as usize..)?.get(..text.len as usize)
        });
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("?")
    }

    /// Whether an instruction means tasks of this name.
    pub fn is_meant(&self, name: Index) -> bool {
        self.fixed::<u8>(Part::Meant).get(name as usize) == Some(&1)
    }

    /// How many tasks a barrier waits for.
    pub fn barrier_needs(&self, barrier: Index) -> u32 {
        self.fixed::<u32>(Part::Needs).get(barrier as usize).map_or(1, |needs| (*needs).max(1))
    }

    pub fn board(&self) -> &Board {
        // SAFETY: the part's type, of atomics; `create` and `inherited` see to it that there is one.
        let boards: &[Board] = unsafe { self.shared(Part::Board) };
        &boards[0]
    }

    pub fn mutex(&self, i: Index) -> &AtomicU32 {
        // SAFETY: the part's type.
        let all: &[AtomicU32] = unsafe { self.shared(Part::Mutexes) };
        &all[i as usize]
    }

    pub fn cond(&self, i: Index) -> &AtomicU32 {
        // SAFETY: the part's type.
        let all: &[AtomicU32] = unsafe { self.shared(Part::Conds) };
        &all[i as usize]
    }

    pub fn barrier(&self, i: Index) -> &AtomicU64 {
        // SAFETY: the part's type.
        let all: &[AtomicU64] = unsafe { self.shared(Part::Barriers) };
        &all[i as usize]
    }

    pub fn timer(&self, i: Index) -> &AtomicU64 {
        // SAFETY: the part's type.
        let all: &[AtomicU64] = unsafe { self.shared(Part::Timers) };
        &all[i as usize]
    }

    /// One cell for each instruction, then one for each start entry.
    pub fn refusals(&self) -> &[AtomicU64] {
        // SAFETY: the part's type.
        unsafe { self.shared(Part::Refusals) }
    }

    pub fn slots(&self) -> &[Slot] {
        // SAFETY: the part's type, of atomics.
        unsafe { self.shared(Part::Slots) }
    }

    pub fn count(&self, what: Count) {
        let board = self.board();
        match what {
            Count::Forked => board.forked.fetch_add(1, Relaxed),
            Count::ForkFailed => board.forks_failed.fetch_add(1, Relaxed),
            Count::Exec { nonleader } => {
                board.nonleader_execs.fetch_add(nonleader.into(), Relaxed);
                board.execs.fetch_add(1, Relaxed)
            }
        };
    }

    /// What has been counted. `exited` is for the census to fill in.
    pub fn counts(&self) -> Counts {
        let board = self.board();
        Counts {
            forked: board.forked.load(Relaxed),
            exited: 0,
            execs: board.execs.load(Relaxed),
            nonleader_execs: board.nonleader_execs.load(Relaxed),
            forks_failed: board.forks_failed.load(Relaxed),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and this long, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.layout.size) };
    }
}

/// For each name whether an instruction means the tasks of it.
fn meant_by_name(program: &Program) -> Vec<u8> {
    let mut meant = vec![0; program.names.len()];
    for instr in &program.code {
        if let Instr::Kill(Who::Named(name))
        | Instr::SetNice(Who::Named(name), _)
        | Instr::SetAffinity(Who::Named(name), _)
        | Instr::SetPolicy(Who::Named(name), _) = instr
            && let Some(meant) = meant.get_mut(*name as usize)
        {
            *meant = 1;
        }
    }
    meant
}

fn memfd() -> io::Result<File> {
    /// `MFD_NOEXEC_SEAL`, which kernels from 6.3 on want to be asked for.
    const NOEXEC: libc::c_uint = 8;
    for flags in [libc::MFD_CLOEXEC | NOEXEC, libc::MFD_CLOEXEC] {
        // SAFETY: the name ends in a NUL.
        let fd = unsafe { libc::memfd_create(c"scxlab-stage".as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: a new descriptor that nobody else has.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
    }
    Err(io::Error::last_os_error())
}
