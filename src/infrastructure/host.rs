//! How large this host is.

/// Processors and memory that guests share with the host itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostSize {
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// What the host itself needs beside a guest: its page cache holds the guest's disk.
const RESERVED_MIB: u32 = 512;

impl HostSize {
    /// Measures this host.
    pub fn measure() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_mib: total_memory_mib().unwrap_or(u32::MAX),
        }
    }

    /// Memory in MiB that a guest may have.
    pub fn guest_memory_mib(self) -> u32 {
        self.memory_mib.saturating_sub(RESERVED_MIB)
    }
}

fn total_memory_mib() -> Option<u32> {
    let pages = nix::unistd::sysconf(nix::unistd::SysconfVar::_PHYS_PAGES).ok()??;
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    u32::try_from(pages.checked_mul(size)? / (1 << 20)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_something_to_give() {
        let host = HostSize::measure();
        assert!(host.cpus >= 1);
        // The tests themselves need more than that.
        assert!(host.memory_mib > 256 && host.memory_mib < u32::MAX);
        assert_eq!(host.guest_memory_mib(), host.memory_mib - RESERVED_MIB);
    }
}
