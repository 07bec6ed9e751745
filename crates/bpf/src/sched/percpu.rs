//! What each CPU has one of: variables of the kernel's, and objects of the program's.

use scxlab_engine::CpuId;

use super::call::{Bad, Call};
use super::kfunc;

/// `bpf_per_cpu_ptr()`: NULL for a CPU that is not there.
pub(super) fn per_cpu_ptr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    let cpu = CpuId(call.args[1] as u32);
    if cpu.0 >= call.cx.nr_cpu_ids() {
        return Ok(0);
    }
    of_cpu(call, cpu)
}

/// `bpf_this_cpu_ptr()`.
pub(super) fn this_cpu_ptr(call: &mut Call<'_, '_>) -> Result<u64, Bad> {
    of_cpu(call, call.cx.this_cpu())
}

fn of_cpu(call: &mut Call<'_, '_>, cpu: CpuId) -> Result<u64, Bad> {
    let addr = call.args[0];
    if let Some(own) = kfunc::percpu_obj_of(call, addr, cpu.0)? {
        return Ok(own);
    }
    let object = call.inner()?.objects.at(addr).and_then(|object| object.of_cpu(cpu));
    let object = object.ok_or_else(|| format!("its argument 1 is of no CPU: {addr:#x}"))?;
    Ok(call.object(object)?)
}
