#!/bin/sh
# Turns a freshly installed Debian tree into the tree of a cloud image.
#
# mmdebstrap runs it as a customize hook: $1 is the tree. Variables say what the disk around the tree will look like:
# ROOT_UUID (of the root filesystem), ROOT_PARTITION (its number), ESP_SERIAL (as /etc/fstab writes it: ABCD-1234), and
# KERNEL_CMDLINE. What belongs outside the root filesystem is left in /export: boot.img and core.img for the boot sector and the
# BIOS boot partition, esp/ for the EFI system partition, kernel and initrd for direct boot.
set -eu

root=$1

# --- identity: none. A clone gets its own on first boot -------------------------------------------------------
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
rm -f "$root"/etc/ssh/ssh_host_*_key "$root"/etc/ssh/ssh_host_*_key.pub
echo localhost > "$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n' > "$root/etc/hosts"

# --- nobody can log in before cloud-init has put a key in ------------------------------------------------------
chroot "$root" usermod --lock root
cat > "$root/etc/ssh/sshd_config.d/20-cloud-image.conf" <<'CONF'
# Keys only, nobody as root with a password.
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
CONF

# cloud-init makes the host keys, but it stands aside on a machine without a data source, and sshd can't start without.
cat > "$root/etc/systemd/system/ssh-host-keys.service" <<'CONF'
[Unit]
Description=SSH host keys, if there are none yet
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
After=cloud-init.service
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=ssh.service
CONF
chroot "$root" systemctl enable ssh-host-keys.service

# --- filesystems are named by UUID: the disk is vda here, nvme0n1 or xvda there --------------------------------
cat > "$root/etc/fstab" <<CONF
UUID=$ROOT_UUID / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1
UUID=$ESP_SERIAL /boot/efi vfat umask=0077,nofail 0 0
CONF
mkdir -p "$root/boot/efi"

# --- network: classic names, DHCP by systemd-networkd, told by cloud-init --------------------------------------
cat > "$root/etc/cloud/cloud.cfg.d/10-cloud-image.cfg" <<'CONF'
# NoCloud is a seed disk, Ec2 the metadata service; None lets a machine without either boot without waiting.
datasource_list: [NoCloud, Ec2, None]
system_info:
  network:
    renderers: [networkd]
CONF
chroot "$root" systemctl enable systemd-networkd.service systemd-resolved.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

# --- consoles ----------------------------------------------------------------------------------------------------
chroot "$root" systemctl enable serial-getty@ttyS0.service
echo 'LANG=C.UTF-8' > "$root/etc/default/locale"

# --- boot loaders -------------------------------------------------------------------------------------------------
mkdir -p "$root/etc/default/grub.d"
cat > "$root/etc/default/grub.d/20-cloud-image.cfg" <<CONF
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="$KERNEL_CMDLINE"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"
GRUB_DISABLE_OS_PROBER=true
CONF
# The package grub-cloud-amd64 looks for this file before it refreshes both boot loaders after an upgrade of GRUB.
[ ! -e "$root/usr/share/doc/grub-cloud-amd64" ] || : > "$root/etc/grub.d/enable_cloud"

# What grub-install would copy into the root filesystem.
for platform in i386-pc x86_64-efi; do
    mkdir -p "$root/boot/grub/$platform"
    for file in "$root/usr/lib/grub/$platform"/*.mod "$root/usr/lib/grub/$platform"/*.lst; do
        cp "$file" "$root/boot/grub/$platform/"
    done
done
mkdir -p "$root/boot/grub/fonts"
cp "$root/usr/share/grub/unicode.pf2" "$root/boot/grub/fonts/"

# BIOS: the core image finds its root by UUID, whatever the firmware calls the disk.
export="$root/export"
mkdir -p "$export/esp/EFI/BOOT" "$export/esp/EFI/debian"
cp "$root/usr/lib/grub/i386-pc/boot.img" "$export/boot.img"
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$ROOT_UUID" > "$export/load.cfg"
chroot "$root" grub-mkimage --format=i386-pc --prefix=/boot/grub --config=/export/load.cfg \
    --output=/export/core.img biosdisk part_gpt ext2 search_fs_uuid
rm "$export/load.cfg"

# UEFI: Microsoft's firmware key vouches for shim, shim for GRUB, GRUB for the kernel. The removable path needs no variable in
# the firmware; the signed GRUB looks for its configuration in the folder of the distribution.
for folder in BOOT debian; do
    cp "$root/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" "$export/esp/EFI/$folder/grubx64.efi"
    cp "$root/usr/lib/shim/mmx64.efi.signed" "$export/esp/EFI/$folder/mmx64.efi"
    printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n' "$ROOT_UUID" \
        > "$export/esp/EFI/$folder/grub.cfg"
done
cp "$root/usr/lib/shim/shimx64.efi.signed" "$export/esp/EFI/BOOT/BOOTX64.EFI"
cp "$root/usr/lib/shim/shimx64.efi.signed" "$export/esp/EFI/debian/shimx64.efi"

# grub-mkconfig asks grub-probe about the block device below /. There is none yet, but all the answers are known; the
# device name does not reach grub.cfg as long as the link below says that the UUID can be found.
cat > "$root/usr/sbin/grub-probe.cloud-image" <<CONF
#!/bin/sh
for argument; do
    case \$argument in
    --target=*) target=\${argument#--target=} ;;
    esac
done
while [ \$# -gt 0 ]; do
    [ "\$1" != -t ] || target=\$2
    shift
done
case \$target in
device) echo /dev/vda$ROOT_PARTITION ;;
fs_uuid) echo $ROOT_UUID ;;
fs) echo ext2 ;;
partmap) echo gpt ;;
hints_string) echo --hint-bios=hd0,gpt$ROOT_PARTITION --hint-efi=hd0,gpt$ROOT_PARTITION ;;
compatibility_hint) echo hd0,gpt$ROOT_PARTITION ;;
abstraction | cryptodisk_uuid) ;;
*) exit 1 ;;
esac
CONF
chmod 755 "$root/usr/sbin/grub-probe.cloud-image"
mv "$root/usr/sbin/grub-probe" "$root/usr/sbin/grub-probe.distributed"
mv "$root/usr/sbin/grub-probe.cloud-image" "$root/usr/sbin/grub-probe"
mkdir -p "$root/dev/disk/by-uuid"
: > "$root/dev/disk/by-uuid/$ROOT_UUID"
chroot "$root" grub-mkconfig -o /boot/grub/grub.cfg
rm -r "$root/dev/disk"
mv "$root/usr/sbin/grub-probe.distributed" "$root/usr/sbin/grub-probe"
grep -q "root=UUID=$ROOT_UUID" "$root/boot/grub/grub.cfg"

cp "$root"/boot/vmlinuz-* "$export/kernel"
cp "$root"/boot/initrd.img-* "$export/initrd"

# --- traces of the installation ------------------------------------------------------------------------------------
find "$root/var/log" -type f -exec truncate -s 0 {} +
rm -f "$root/var/cache/debconf/"*-old "$root/var/lib/dpkg/"*-old "$root/etc/.pwd.lock"
