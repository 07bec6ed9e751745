//! Whether a function comes to one of some instructions whatever it decides.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::Image;
use crate::insn::{Insn, class, pseudo};
use crate::reachable;

/// `MAX_CALL_FRAMES`: the kernel lets no program call deeper.
const FRAMES: usize = 8;

/// `BPF_FUNC_tail_call`, which does not come back.
const TAIL_CALL: i32 = 12;

/// The starts of the functions that come to an instruction of `wanted` on every way to their end, or
/// call a function that does. `reached` are the instructions that are reached at all.
pub(super) fn functions(
    image: &Image,
    reached: &[bool],
    wanted: &BTreeSet<usize>,
) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for _ in 0..FRAMES {
        let before = found.len();
        for function in &image.functions {
            let range = function.start..function.start + function.len;
            let walk = Walk { image, reached, wanted, found: &found };
            if !found.contains(&function.start) && walk.comes_to_one(range) {
                found.insert(function.start);
            }
        }
        if found.len() == before {
            break;
        }
    }
    found
}

struct Walk<'a> {
    image: &'a Image,
    reached: &'a [bool],
    wanted: &'a BTreeSet<usize>,
    found: &'a BTreeSet<usize>,
}

impl Walk<'_> {
    fn comes_to_one(&self, range: Range<usize>) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![range.start];
        let mut comes = false;
        while let Some(at) = open.pop() {
            if !range.contains(&at) {
                return false;
            }
            if !self.reached[at] || !seen.insert(at) {
                continue;
            }
            if self.is_wanted(at) {
                comes = true;
                continue;
            }
            let insn = self.image.insns[at];
            if ends(insn) {
                return false;
            }
            let next = at + if insn.is_wide() { 2 } else { 1 };
            let target = reachable::target(at, insn);
            open.extend(target);
            // What jumps always has no other way.
            if target.is_none() || insn.code & 0xf0 != 0 {
                open.push(next);
            }
        }
        comes
    }

    /// It is one of them, or calls a function that comes to one.
    fn is_wanted(&self, at: usize) -> bool {
        let insn = self.image.insns[at];
        let is_call = (insn.code, insn.src) == (Insn::CALL, pseudo::CALL);
        let callee = (at + 1).checked_add_signed(insn.imm as isize).filter(|_| is_call);
        self.wanted.contains(&at) || callee.is_some_and(|callee| self.found.contains(&callee))
    }
}

/// A way ends there, or goes where nobody knows: through a table.
fn ends(insn: Insn) -> bool {
    const EXIT: u8 = 0x95;
    let through_a_table = insn.class() == class::JMP && insn.code == class::JMP | Insn::REGISTER;
    let is_tail_call = (insn.code, insn.src, insn.imm) == (Insn::CALL, pseudo::HELPER, TAIL_CALL);
    insn.code == EXIT || through_a_table || is_tail_call
}
