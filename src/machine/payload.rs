//! The boot sector with which the accelerator probe finds out whether an accelerator really runs code.
//!
//! It does what a kernel does in its first moments: build page tables, enter long mode with paging, then run
//! a tight loop. After [`LOOP_COUNT`] rounds it writes [`EXIT_VALUE`] to QEMU's `isa-debug-exit` port, which
//! ends QEMU with the status [`EXIT_STATUS`]. The firmware alone would prove nothing: on nested hosts it runs,
//! and the first kernel hangs.

/// The I/O port of the `isa-debug-exit` device.
pub const EXIT_PORT: u16 = 0xf4;
/// What the payload writes to the port.
pub const EXIT_VALUE: i32 = 0x15;
/// The exit status of QEMU after that write: `(value << 1) | 1`.
pub const EXIT_STATUS: i32 = (EXIT_VALUE << 1) | 1;
/// Rounds of the loop; about 0.3 s under software emulation, some 20 ms on real hardware.
pub const LOOP_COUNT: u32 = 50_000_000;
/// The size of a boot sector, and where the firmware looks for the `55 aa` signature in it.
const SECTOR: usize = 512;

// The addresses are those at run time: the firmware loads the sector at 0x7c00. The page tables lie below it,
// at 0x1000 (PML4), 0x2000 (PDPT) and 0x3000 (PD, one 2 MiB page that maps the first 2 MiB onto themselves).
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    r#"
    .pushsection .rodata.ovenbird_probe, "a", @progbits
    .globl ovenbird_probe_start
    .globl ovenbird_probe_end
    .code16
ovenbird_probe_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    movl $0x1000, %edi
    movl %edi, %cr3
    xorl %eax, %eax
    movl $0xc00, %ecx
    rep stosl
    movl $0x2003, 0x1000
    movl $0x3003, 0x2000
    movl $0x0083, 0x3000
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    lgdtl 0x7c00 + (7f - ovenbird_probe_start)
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmpl $0x08, $(0x7c00 + (5f - ovenbird_probe_start))
    .code64
5:
    movl ${loops}, %ecx
6:
    decl %ecx
    jnz 6b
    movb ${value}, %al
    outb %al, ${port}
    hlt
    jmp 5b
7:
    .word 15
    .long 0x7c00 + (8f - ovenbird_probe_start)
8:
    .quad 0
    .quad 0x00209a0000000000
ovenbird_probe_end:
    .popsection
    .code64
"#,
    loops = const LOOP_COUNT,
    value = const EXIT_VALUE,
    port = const EXIT_PORT,
    options(att_syntax)
);

/// Returns the boot sector for this host's architecture, or `None` where we have none (the probe then trusts
/// the accelerator's own word).
#[cfg(target_arch = "x86_64")]
pub fn boot_sector() -> Option<[u8; SECTOR]> {
    unsafe extern "C" {
        static ovenbird_probe_start: u8;
        static ovenbird_probe_end: u8;
    }
    // SAFETY: both symbols are defined above, in this order, in one read-only section of this program.
    let code = unsafe {
        let start = &raw const ovenbird_probe_start;
        let end = &raw const ovenbird_probe_end;
        std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    };
    let mut sector = [0u8; SECTOR];
    sector.get_mut(..code.len())?.copy_from_slice(code);
    sector[SECTOR - 2..].copy_from_slice(&[0x55, 0xaa]);
    Some(sector)
}

/// Returns the boot sector for this host's architecture: none is written for it yet.
#[cfg(not(target_arch = "x86_64"))]
pub fn boot_sector() -> Option<[u8; SECTOR]> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn sector_is_bootable_and_small() {
        let sector = boot_sector().expect("x86_64 has a payload");
        assert_eq!(&sector[510..], &[0x55, 0xaa]);
        assert_eq!(sector[0], 0xfa, "starts with cli");
        assert!(
            sector[400..510].iter().all(|byte| *byte == 0),
            "room to spare"
        );
    }
}
