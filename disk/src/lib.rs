//! Disk images, partition tables and filesystems, read and written without mounting anything.
