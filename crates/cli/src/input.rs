//! Files that somebody names.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// What is in a file; nothing if that is more than `most` bytes. Of a device no more is read either.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // A byte more than may be there: enough to see that it is too long.
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}
