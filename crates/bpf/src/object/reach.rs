//! Which functions the loaded programs reach: libbpf puts no others behind a program
//! (`bpf_object__reloc_code()`), so that no kernel ever sees them.

use super::functions::{self, Func, To};
use crate::insn::{Insn, pseudo};

/// Leaves out the functions that no loaded program reaches. A call that leads to none is for the
/// relocation to tell.
pub(super) fn leave_out_unreached(functions: &mut [Func]) {
    let is_program = |&at: &usize| functions[at].program.is_some() && functions[at].autoload;
    let mut next: Vec<usize> = (0..functions.len()).filter(is_program).collect();
    let mut reached = vec![false; functions.len()];
    for &program in &next {
        reached[program] = true;
    }
    while let Some(from) = next.pop() {
        for to in leads_to(functions, &functions[from]) {
            if !std::mem::replace(&mut reached[to], true) {
                next.push(to);
            }
        }
    }
    for (function, reached) in functions.iter_mut().zip(reached) {
        // A program that another one calls is loaded only if it is to be loaded.
        function.autoload &= reached;
    }
}

/// The functions that a function calls, or whose addresses it takes.
fn leads_to(functions: &[Func], function: &Func) -> Vec<usize> {
    let mut references = function.references.iter().peekable();
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(&insn) = function.insns.get(at) {
        let is_call = insn.code == Insn::CALL && insn.src == pseudo::CALL;
        let to = match references.next_if(|reference| reference.insn == at) {
            // CO-RE may have left poison in place of a call.
            Some(reference) => match reference.to {
                To::Function(section, to) if is_call || insn.is_wide() => Some((section, to)),
                _ => None,
            },
            None if is_call => {
                let to = (function.start + at) as i64 + i64::from(insn.imm) + 1;
                usize::try_from(to).ok().map(|to| (function.section, to))
            }
            None => None,
        };
        all.extend(to.and_then(|(section, to)| functions::starting(functions, section, to)));
        // A relocation of the second half is wrong, and said to be so where it is relocated.
        at += if insn.is_wide() { 2 } else { 1 };
    }
    all
}
