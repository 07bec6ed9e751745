//! Which CPUs share what, and the cids that follow from it.

use crate::{Cid, CpuId, Cpumask};

/// The machine's topology: one node, caches, cores and their threads.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    cpus: usize,
    cores: usize,
    pub smt: usize,
    pub llcs: usize,
    cpu_to_cid: Vec<Cid>,
    cid_to_cpu: Vec<CpuId>,
}

impl Topology {
    pub fn new(cpus: usize, smt: usize, llcs: usize) -> Self {
        let cores = cpus / smt;
        // scx_cid_init(): cpus of a core are neighbours, then cores of a cache.
        let cid_to_cpu: Vec<_> = (0..cores)
            .flat_map(|core| (0..smt).map(move |thread| CpuId((core + thread * cores) as u32)))
            .collect();
        let mut cpu_to_cid = vec![Cid(0); cpus];
        for (cid, cpu) in cid_to_cpu.iter().enumerate() {
            cpu_to_cid[cpu.index()] = Cid(cid as u32);
        }
        Self { cpus, cores, smt, llcs, cpu_to_cid, cid_to_cpu }
    }

    pub fn cid(&self, cpu: CpuId) -> Cid {
        self.cpu_to_cid[cpu.index()]
    }

    pub fn cpu(&self, cid: Cid) -> Option<CpuId> {
        self.cid_to_cpu.get(cid.index()).copied()
    }

    pub fn all(&self) -> Cpumask {
        Cpumask::first_n(self.cpus)
    }

    /// `cpu_smt_mask()`.
    pub fn siblings(&self, cpu: CpuId) -> impl Iterator<Item = CpuId> + use<> {
        let (core, cores) = (cpu.index() % self.cores, self.cores);
        (0..self.smt).map(move |thread| CpuId((core + thread * cores) as u32))
    }

    /// The CPUs that share a last-level cache with `cpu`.
    pub fn llc(&self, cpu: CpuId) -> Cpumask {
        let per_llc = self.cores / self.llcs;
        let llc = cpu.index() % self.cores / per_llc;
        (llc * per_llc..(llc + 1) * per_llc)
            .flat_map(|core| self.siblings(CpuId(core as u32)))
            .collect()
    }

    /// `scx_cpumask_to_cmask()`.
    pub fn to_cids(&self, cpus: &Cpumask) -> Cpumask {
        if self.smt == 1 {
            return *cpus;
        }
        cpus.iter().map(|cpu| CpuId(self.cid(cpu).0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_are_neighbours_in_cid_space() {
        let topology = Topology::new(8, 2, 2);
        assert_eq!(topology.siblings(CpuId(1)).collect::<Vec<_>>(), [CpuId(1), CpuId(5)]);
        assert_eq!(topology.cid(CpuId(1)), Cid(2));
        assert_eq!(topology.cid(CpuId(5)), Cid(3));
        assert_eq!(topology.cpu(Cid(3)), Some(CpuId(5)));
        assert_eq!(topology.cpu(Cid(8)), None);
        assert_eq!(topology.llc(CpuId(6)).to_string(), "2-3,6-7");
    }
}
