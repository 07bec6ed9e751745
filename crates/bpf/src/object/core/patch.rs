//! A relocation's value, put into its instruction (`bpf_core_patch_insn()` in libbpf).

use super::Outcome;
use crate::Insn;
use crate::image::Poison;
use crate::insn::class;

/// What became of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::object) enum Patched {
    /// It has the kernel's value.
    Value,
    /// It must not be reached, as the kernel has not got what it is about; so many instructions are
    /// replaced.
    Poison(usize),
    /// It must not be reached, as what it accesses has another size in the kernel, and the bytes that
    /// it would access are not the same number.
    OtherSize,
}

/// Puts a value into instruction `at`.
pub(in crate::object) fn patch(
    insns: &mut [Insn],
    at: usize,
    outcome: &Outcome,
) -> Result<Patched, String> {
    let value = &outcome.value;
    let insn = *insns.get(at).ok_or("it is outside of its function")?;
    let poison = |insns: &mut [Insn]| {
        let count = if insn.is_wide() { 2 } else { 1 };
        let call = Insn { code: Insn::CALL, imm: Poison::CORE, ..Insn::default() };
        insns.iter_mut().skip(at).take(count).for_each(|insn| *insn = call);
        Ok(Patched::Poison(count))
    };
    let Some(after) = value.after else { return poison(insns) };
    let unexpected = |is: i128| {
        let (before, after) = (value.before, value.after.unwrap_or_default());
        format!("its operand is {is}, expected {before} -> {after}")
    };
    match insn.class() {
        class::ALU | class::ALU64 => {
            if insn.code & Insn::REGISTER != 0 {
                return Err("it has no immediate operand".to_owned());
            }
            // Compared as libbpf does: the operand with its sign.
            if value.validate && i64::from(insn.imm) as u64 != value.before {
                return Err(unexpected(insn.imm.into()));
            }
            insns[at].imm = after as i32;
        }
        class::LDX | class::ST | class::STX => {
            if value.validate && i64::from(insn.off) as u64 != value.before {
                return Err(unexpected(insn.off.into()));
            }
            let off = i16::try_from(after).map_err(|_| format!("offset {after} is too large"))?;
            if value.size_matters {
                return poison(insns).map(|_| Patched::OtherSize);
            }
            insns[at].off = off;
            if value.sizes.0 != value.sizes.1 {
                let size = insn.access_size();
                if size != value.sizes.0 {
                    let expected = value.sizes.0;
                    return Err(format!("it accesses {size} bytes, expected {expected}"));
                }
                insns[at] = insns[at].with_access_size(value.sizes.1).ok_or_else(|| {
                    let size = value.sizes.1;
                    format!("{size} bytes cannot be accessed at once")
                })?;
            }
        }
        _ if insn.is_wide() => {
            let next = insns.get(at + 1).copied().unwrap_or_default();
            let plain = Insn { imm: next.imm, ..Insn::default() };
            if insn.src != 0 || insn.off != 0 || next != plain || at + 1 >= insns.len() {
                return Err("an address, not a number".to_owned());
            }
            let is = u64::from(insn.imm as u32) | u64::from(next.imm as u32) << 32;
            if value.validate && is != value.before {
                return Err(unexpected(is.into()));
            }
            insns[at].imm = after as i32;
            insns[at + 1].imm = (after >> 32) as i32;
        }
        _ => {
            return Err(format!("code {:#04x} has no operand", insn.code));
        }
    }
    Ok(Patched::Value)
}
