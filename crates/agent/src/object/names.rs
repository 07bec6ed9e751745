//! The kernel's enumerators, by name.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use libbpf_rs::btf::types::{Enum, Enum64};
use libbpf_rs::btf::{Btf, BtfType};

/// Every enumerator of the kernel's that begins with `SCX_`.
pub(super) fn enumerators(kernel: &Btf<'_>) -> BTreeMap<String, u64> {
    let enums = kernel.type_by_kind::<Enum<'_>>().map(|e| *e);
    let enums64 = kernel.type_by_kind::<Enum64<'_>>().map(|e| *e);
    let all = enums.chain(enums64).flat_map(|ty| of(&ty));
    all.filter(|(name, _)| name.starts_with("SCX_") || name.starts_with("__SCX_")).collect()
}

/// The flags of `enum scx_ops_flags`: a bit each.
pub(super) fn flags(kernel: &Btf<'_>) -> Vec<(String, u64)> {
    let ty = kernel.type_by_name::<BtfType<'_>>("scx_ops_flags");
    let mut all = ty.map(|ty| of(&ty)).unwrap_or_default();
    all.retain(|(name, value)| name.starts_with("SCX_OPS_") && value.count_ones() == 1);
    all
}

/// Names and values; none if it is no enumeration.
fn of(ty: &BtfType<'_>) -> Vec<(String, u64)> {
    let text = |name: Option<&OsStr>| name.and_then(|n| n.to_str()).map(str::to_owned);
    if let Ok(e) = Enum::try_from(*ty) {
        return e.iter().filter_map(|m| Some((text(m.name)?, m.value as u64))).collect();
    }
    match Enum64::try_from(*ty) {
        Ok(e) => e.iter().filter_map(|m| Some((text(m.name)?, m.value as u64))).collect(),
        Err(_) => Vec::new(),
    }
}
