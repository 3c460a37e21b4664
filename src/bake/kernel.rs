//! The build guest's kernel command line: the base's own, made quick.

use crate::catalog::DirectKernel;
use crate::machine::Boot;

/// What a bake gains nothing from. Masks on the command line leave no trace on the disk.
const MASKED: [&str; 11] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    // The seed leaves nothing to do for these two, but each starts an interpreter for seconds.
    "cloud-config.service",
    "cloud-final.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "man-db.timer",
    "unattended-upgrades.service",
    "systemd-networkd-wait-online.service",
];

/// The direct boot of a base's kernel for a bake.
pub fn for_bake(kernel: &DirectKernel) -> Boot {
    let mut cmdline = kernel.cmdline.clone();
    // The guest is ours alone: guarding it against its own programs only costs time, most of all under emulation.
    cmdline.push_str(" mitigations=off loglevel=4 systemd.show_status=true");
    // The kernel's test of its timer counts ticks against a delay loop, and panics if an emulator on a busy host is late.
    cmdline.push_str(" no_timer_check");
    for unit in MASKED {
        cmdline.push_str(" systemd.mask=");
        cmdline.push_str(unit);
    }
    Boot::Kernel {
        kernel: kernel.kernel.clone(),
        initrd: kernel.initrd.clone(),
        cmdline,
    }
}
