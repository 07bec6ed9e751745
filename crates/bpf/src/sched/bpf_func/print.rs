//! Text: `bpf_trace_printk()` and its like, whose lines are kept, and `bpf_snprintf()`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::negative;
use crate::sched::call::{Bad, Call};
use crate::sched::format;
use crate::sched::map::errno::EINVAL;

/// `MAX_BPRINTF_VARARGS`.
const MAX_ARGS: u32 = 12;
/// `MAX_BPRINTF_BUF`: bytes of a line, with its zero.
const LINE: usize = 1024;
/// Lines that are kept; then the oldest go. As many as 64 MiB hold, were all full.
const LINES: usize = 1 << 16;

/// What programs printed for whoever reads the trace: the last lines of it.
#[derive(Clone, Debug, Default)]
pub(in crate::sched) struct Log {
    /// So many lines each, which clones share.
    full: VecDeque<Arc<[Box<str>]>>,
    last: Vec<Box<str>>,
    printed: usize,
}

/// Lines that clones share at once.
const TOGETHER: usize = 256;

impl Log {
    fn push(&mut self, line: &str) {
        self.printed += 1;
        self.last.push(line.into());
        if self.last.len() == TOGETHER {
            self.full.push_back(std::mem::take(&mut self.last).into());
            if self.full.len() > LINES / TOGETHER + 1 {
                self.full.pop_front();
            }
        }
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let kept = self.full.len() * TOGETHER + self.last.len();
        let all = self.full.iter().flat_map(|lines| lines.iter()).chain(&self.last);
        all.skip(kept.saturating_sub(LINES)).map(|line| &**line)
    }

    /// How many were dropped before them.
    pub fn dropped(&self) -> u64 {
        self.printed.saturating_sub(LINES) as u64
    }
}

/// The words of the arguments; nothing for a size that cannot be.
fn words(call: &mut Call<'_, '_>, data: u64, size: u32) -> Result<Option<Vec<u64>>, Bad> {
    if !size.is_multiple_of(8) || size > MAX_ARGS * 8 || size > 0 && data == 0 {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    if size > 0 {
        call.read(data, &mut bytes)?;
    }
    Ok(Some(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()))
}

/// The text of a format, which is at most `size` bytes with its zero, or the kernel's error.
fn print(
    call: &mut Call<'_, '_>,
    fmt: u64,
    size: usize,
    args: Vec<u64>,
) -> Result<Result<String, i32>, Bad> {
    let Some(fmt) = format::string(call, fmt, size) else {
        return Err("its format cannot be read".into());
    };
    if fmt.len() >= size {
        return Ok(Err(EINVAL));
    }
    Ok(format::printf(&fmt, args, |addr| format::byte(call, addr)))
}

/// Keeps a line, and says how long it is.
fn trace(call: &mut Call<'_, '_>, line: Result<String, i32>) -> Result<u64, Bad> {
    let mut line = match line {
        Ok(line) => line,
        Err(errno) => return Ok(negative(errno)),
    };
    let mut end = line.len().min(LINE - 1);
    let written = line.len() as u64;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    call.inner()?.log.push(line.trim_end_matches('\n'));
    Ok(written)
}

/// `bpf_trace_printk()`: up to three arguments, in registers.
pub(super) fn trace_printk(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [fmt, size, a, b, c] = call.args;
    let line = print(call, fmt, size as u32 as usize, vec![a, b, c])?;
    trace(call, line)
}

/// `bpf_trace_vprintk()`.
pub(super) fn trace_vprintk(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [fmt, size, data, len, _] = call.args;
    let Some(args) = words(call, data, len as u32)? else { return Ok(negative(EINVAL)) };
    let line = print(call, fmt, size as u32 as usize, args)?;
    trace(call, line)
}

/// `bpf_stream_vprintk()`: to one of the program's two streams, whose reader keeps up.
pub(in crate::sched) fn stream_vprintk(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    const ENOENT: i32 = 2;
    let [stream, fmt, data, len, _] = call.args;
    // `BPF_STDOUT` and `BPF_STDERR`.
    if !matches!(stream as u32, 1 | 2) {
        return Ok(negative(ENOENT));
    }
    let Some(args) = words(call, data, len as u32)? else { return Ok(negative(EINVAL)) };
    let line = print(call, fmt, LINE, args)?;
    let written = line.is_ok();
    let failed = trace(call, line)?;
    Ok(if written { 0 } else { failed })
}

/// `bpf_snprintf()`: what the text takes with its zero, also where there is no room for it.
pub(super) fn snprintf(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, room, fmt, data, len] = call.args;
    let Some(args) = words(call, data, len as u32)? else { return Ok(negative(EINVAL)) };
    let text = match print(call, fmt, LINE, args)? {
        Ok(text) => text,
        Err(errno) => return Ok(negative(errno)),
    };
    let room = room as u32 as usize;
    if room > 0 {
        let mut bytes = text.as_bytes()[..text.len().min(room - 1)].to_vec();
        bytes.push(0);
        call.write(to, &bytes)?;
    }
    Ok(text.len() as u64 + 1)
}

/// `bpf_get_current_comm()`.
pub(super) fn current_comm(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let [to, size, ..] = call.args;
    let p = call.cx.current();
    let mut bytes = call.cx.get(p).comm().as_bytes().to_vec();
    // strscpy_pad(): all that there is room for. The verifier knows that there is.
    let size = super::read::room(call, to, size)?;
    super::read::clear(call, to, size)?;
    bytes.truncate(size.saturating_sub(1));
    call.write(to, &bytes)?;
    Ok(0)
}
