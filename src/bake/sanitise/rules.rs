//! The table: what goes, why, by which marker it stays, and by what its absence is seen on the finished disk.
//!
//! Sections and markers of the service's own script first; then what that leaves behind and a copied image must not carry.

/// One thing that is cleaned.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// By this the recipe and the manifest name it.
    pub id: &'static str,
    /// What goes, for the person.
    pub what: &'static str,
    /// The file in the working directory that keeps it; rules without one always run.
    pub marker: Option<&'static str>,
    /// Whether it is applied only if the recipe asks for it.
    pub optional: bool,
    /// Shell commands. `wipe` overwrites and removes files, `homes` lists the home of every user, `$W` is the working
    /// directory, `$U` the bake's user, `$A` the agent's folder.
    pub(super) script: &'static str,
    /// When it is applied.
    pub(super) turn: Turn,
    /// What must hold on the finished disk.
    pub(super) traces: &'static [Trace],
}

/// When a rule is applied: rules of the same lane one after the other, the lanes beside each other, since each waits
/// mostly for processes that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Before all others.
    First,
    /// In this lane; what another lane does must not matter to it.
    Lane(u8),
    /// After all lanes, in the table's order.
    Last,
}

/// A condition on the finished disk. Patterns are absolute paths in which `*` stands for any part of one name, or begin
/// with `~`, the home of any user.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trace {
    /// Nothing has this path.
    Gone(&'static str),
    /// What has this path is an empty file.
    Hollow(&'static str),
    /// All regular files below this folder are empty.
    AllHollow(&'static str),
    /// The file has no line that begins so.
    NoLine(&'static str, &'static str),
    /// Nothing runs on the disk that could be seen: the rule is about the running guest.
    Nothing,
}

use Trace::{AllHollow, Gone, Hollow, NoLine, Nothing};

const fn rule(
    id: &'static str,
    what: &'static str,
    script: &'static str,
    traces: &'static [Trace],
) -> Rule {
    Rule {
        id,
        what,
        marker: None,
        optional: false,
        script,
        turn: Turn::Lane(0),
        traces,
    }
}

impl Rule {
    /// Whether what it does can be seen on the finished disk.
    pub fn leaves_traces(&self) -> bool {
        self.traces.iter().any(|trace| !matches!(trace, Nothing))
    }

    const fn kept_by(self, marker: &'static str) -> Self {
        Self {
            marker: Some(marker),
            ..self
        }
    }

    const fn at(self, turn: Turn) -> Self {
        Self { turn, ..self }
    }

    const fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }
}

/// The rules, in order.
pub const RULES: [Rule; 30] = [
    rule(
        "services",
        "running services, stopped so that they write nothing after their files are cleaned; cloud-init, which is waited for",
        // What carries our own session, the system bus and the journal stays until the end.
        r#"
if command -v systemctl >/dev/null 2>&1; then
  # After a reboot we are let in before cloud-init is through, and it would write again what is removed below.
  n=0
  while [ $n -lt 600 ] && systemctl list-jobs --no-legend 2>/dev/null | grep -q ' cloud-'; do n=$((n + 1)); sleep 0.2; done
  if [ $n -ge 600 ]; then systemctl stop cloud-final.service cloud-config.service >/dev/null 2>&1; fi
  # It writes the time to a file now and then.
  systemctl stop systemd-timesyncd.service >/dev/null 2>&1
  systemctl list-units --type=service --state=running,activating --plain --no-legend 2>/dev/null | while read -r unit _; do
    case "$unit" in
      ssh*|sshd*|systemd-*|dbus*|getty@*|serial-getty@*|user@*|cloud-*|network*|NetworkManager*|ifup@*|polkit*) ;;
      # With the sockets that would start it again: the journal writes to that of a syslog daemon.
      *) systemctl stop $(systemctl show --property=TriggeredBy --value "$unit") "$unit" >/dev/null 2>&1 ;;
    esac
  done
  # It refuses to be stopped by systemd.
  pkill -x auditd
elif command -v rc-service >/dev/null 2>&1; then
  for service in syslog rsyslog crond chronyd ntpd; do rc-service --ifexists --quiet "$service" stop; done
fi"#,
        &[Nothing],
    )
    .at(Turn::First),
    rule(
        "cloud-init",
        "cloud-init's state, logs, sudoers entry and generated network configuration",
        r#"
wipe /etc/sudoers.d/90-cloud-init-users /etc/locale.conf /var/log/cloud-init.log /var/log/cloud-init-output.log
rm -rf /var/lib/cloud/*
rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init* /etc/systemd/network/*-cloud-init-*
rm -f /etc/NetworkManager/system-connections/cloud-init-* /etc/ssh/sshd_config.d/50-cloud-init.conf
for f in /etc/sysconfig/network-scripts/ifcfg-*; do
  [ -f "$f" ] && grep -q 'Created by cloud-init' "$f" && rm -f "$f"
done"#,
        &[
            Gone("/var/lib/cloud/*"),
            Gone("/etc/sudoers.d/90-cloud-init-users"),
            Gone("/var/log/cloud-init*.log"),
            Gone("/etc/netplan/50-cloud-init.yaml"),
            Gone("/etc/network/interfaces.d/50-cloud-init*"),
            Gone("/etc/systemd/network/*-cloud-init-*"),
            Gone("/etc/NetworkManager/system-connections/cloud-init-*"),
            Gone("/etc/ssh/sshd_config.d/50-cloud-init.conf"),
        ],
    )
    .kept_by("skip_cleanup_cloudinit_files"),
    rule(
        "instance",
        "files that belong to one instance: host name, update stamps, mail spool stamps",
        r#"
wipe /etc/.updated /etc/aliases.db /etc/hostname /var/lib/misc/postfix.aliasesdb-stamp
wipe /var/lib/postfix/master.lock /var/spool/postfix/pid/master.pid /var/.updated
wipe /var/cache/yum/x86_64/2/.gpgkeyschecked.yum"#,
        &[
            Gone("/etc/.updated"),
            Gone("/var/.updated"),
            Gone("/etc/hostname"),
            Gone("/etc/aliases.db"),
            Gone("/var/lib/misc/postfix.aliasesdb-stamp"),
            Gone("/var/lib/postfix/master.lock"),
            Gone("/var/spool/postfix/pid/master.pid"),
        ],
    )
    .kept_by("skip_cleanup_instance_files"),
    rule(
        "ssh",
        "SSH host keys and every user's authorized keys",
        r#"
wipe /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
homes | while IFS= read -r home; do wipe "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2"; done"#,
        &[
            Gone("/etc/ssh/ssh_host_*_key"),
            Gone("/etc/ssh/ssh_host_*_key.pub"),
            Gone("~/.ssh/authorized_keys"),
            Gone("~/.ssh/authorized_keys2"),
        ],
    )
    .kept_by("skip_cleanup_ssh_files"),
    rule(
        "logs",
        "logs, accounting, login records and the journal",
        r#"
journalctl --relinquish-var >/dev/null 2>&1 || true
wipe /var/log/audit/audit.log /var/log/boot.log /var/log/dmesg /var/log/cron
rm -rf /var/log/journal/* /var/log/sa/sa* /var/log/installer /var/log/unattended-upgrades/*
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.[0-9]' -o -name '*.old' -o -name '*-[0-9]*' \) -exec rm -f {} + 2>/dev/null
# Emptied, not removed: daemons rely on owner and mode.
find /var/log /var/account -xdev -type f -size +0 -exec sh -c 'for f; do : > "$f"; done' sh {} + 2>/dev/null
rm -rf /var/crash/* /var/spool/abrt/* /var/lib/systemd/coredump/* /var/lib/logrotate/status /var/lib/logrotate.status"#,
        &[
            AllHollow("/var/log"),
            AllHollow("/var/account"),
            Gone("/var/log/journal/*"),
            Gone("/var/crash/*"),
            Gone("/var/spool/abrt/*"),
            Gone("/var/lib/systemd/coredump/*"),
        ],
    )
    // Package managers write of what other rules let them do.
    .at(Turn::Last)
    .kept_by("skip_cleanup_instance_log_files"),
    rule(
        "toe",
        "AWSTOE's folders in the working directory",
        r#"[ -n "$W" ] && rm -rf "$W"/TOE_*"#,
        &[Gone("/tmp/TOE_*"), Gone("/var/tmp/TOE_*")],
    )
    .kept_by("skip_cleanup_toe_files"),
    rule(
        "ssm-logs",
        "the SSM agent's logs",
        "rm -rf /var/log/amazon/ssm/*",
        &[Gone("/var/log/amazon/ssm/*")],
    )
    .kept_by("skip_cleanup_ssm_log_files"),
    rule(
        "ssm-registration",
        "the SSM agent's registration: a copy would answer for the instance that it was made from",
        "rm -rf /var/lib/amazon/ssm/*",
        &[Gone("/var/lib/amazon/ssm/*")],
    )
    .kept_by("skip_cleanup_ssm_registration"),
    rule(
        "leases",
        "leases of DHCP clients and servers",
        r#"
rm -rf /var/lib/dhclient/* /var/lib/dhcp/*.leases /var/lib/dhcpcd/* /var/lib/NetworkManager/*.lease /var/lib/dhcpd/dhcpd*.leases*
rm -rf /run/systemd/netif/leases/*"#,
        &[
            Gone("/var/lib/dhclient/*"),
            Gone("/var/lib/dhcp/*.leases"),
            Gone("/var/lib/dhcpcd/*"),
            Gone("/var/lib/NetworkManager/*.lease"),
            Gone("/var/lib/dhcpd/dhcpd*.leases*"),
        ],
    )
    .at(Turn::Lane(1)),
    rule(
        "random-seeds",
        "saved random seeds and the secret that credentials are sealed with: copies would share them",
        "wipe /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/NetworkManager/secret_key \
         /boot/efi/loader/random-seed /boot/loader/random-seed",
        &[
            Gone("/var/lib/systemd/random-seed"),
            Gone("/var/lib/systemd/credential.secret"),
            Gone("/var/lib/NetworkManager/secret_key"),
            Gone("/boot/efi/loader/random-seed"),
            Gone("/boot/loader/random-seed"),
        ],
    )
    .at(Turn::Lane(1)),
    rule(
        "network-identity",
        "pinned network cards: udev's persistent rules, hardware addresses in interface files",
        r#"
rm -f /etc/udev/rules.d/70-persistent-net.rules /etc/udev/rules.d/75-persistent-net-generator.rules
for f in /etc/sysconfig/network-scripts/ifcfg-*; do [ -f "$f" ] && sed -i '/^HWADDR=/d' "$f"; done; true"#,
        &[
            Gone("/etc/udev/rules.d/70-persistent-net.rules"),
            Gone("/etc/udev/rules.d/75-persistent-net-generator.rules"),
        ],
    )
    .at(Turn::Lane(1)),
    rule(
        "storage-identity",
        "names under which one machine asks for storage: host of NVMe over fabrics, iSCSI initiator",
        // Debian's service makes a name where it is asked to, others where there is none.
        r#"
rm -f /etc/nvme/hostnqn /etc/nvme/hostid
f=/etc/iscsi/initiatorname.iscsi
if [ -f "$f" ]; then if [ -e /etc/debian_version ]; then echo GenerateName=yes > "$f"; else rm -f "$f"; fi; fi"#,
        &[
            Gone("/etc/nvme/hostnqn"),
            Gone("/etc/nvme/hostid"),
            NoLine("/etc/iscsi/initiatorname.iscsi", "InitiatorName="),
        ],
    )
    .at(Turn::Lane(1)),
    rule(
        "state",
        "state of system services that belongs to one machine: faillock, timers, clock, caches, device lists, rpm's locks",
        r#"
rm -rf /var/lib/rsyslog/imjournal.state /var/lib/systemd/timers /var/lib/systemd/timesync/clock /var/lib/private/systemd/timesync/clock
rm -rf /var/run/faillock/* /var/lib/faillock/* /var/run/console/* /var/cache/ldconfig/* /var/lib/blkid/* /run/blkid/* /etc/lvm/devices/system.devices
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid- /var/lib/rpm/__db.* /var/lib/yum/uuid"#,
        &[
            Gone("/var/lib/systemd/timers"),
            Gone("/var/lib/faillock/*"),
            Gone("/var/cache/ldconfig/*"),
            Gone("/etc/lvm/devices/system.devices"),
            Gone("/etc/passwd-"),
            Gone("/etc/shadow-"),
            Gone("/etc/group-"),
            Gone("/etc/gshadow-"),
            Gone("/var/lib/rpm/__db.*"),
            Gone("/var/lib/yum/uuid"),
        ],
    )
    .at(Turn::Lane(1)),
    rule(
        "enrolment",
        "enrolment of one machine: Red Hat subscription, Ubuntu Pro, FreeIPA client, host keytab, SSSD's and Samba's databases",
        r#"
rm -rf /etc/pki/consumer/* /etc/pki/entitlement/* /var/lib/ipa-client/sysrestore/* /var/lib/ipa-client/pki/* /etc/krb5.keytab
rm -rf /var/lib/sss/db/* /var/lib/sss/mc/* /var/lib/samba/private/secrets.tdb
wipe /var/lib/ubuntu-advantage/private/*"#,
        &[
            Gone("/etc/pki/consumer/*"),
            Gone("/etc/pki/entitlement/*"),
            Gone("/var/lib/ipa-client/sysrestore/*"),
            Gone("/etc/krb5.keytab"),
            Gone("/var/lib/sss/db/*"),
            Gone("/var/lib/samba/private/secrets.tdb"),
            Gone("/var/lib/ubuntu-advantage/private/*"),
        ],
    )
    .at(Turn::Lane(1))
    .kept_by("skip_cleanup_enrolment"),
    rule(
        "mail",
        "mail of local users",
        r#"rm -rf /var/spool/mail/* /var/mail/* 2>/dev/null; true"#,
        &[Gone("/var/mail/*"), Gone("/var/spool/mail/*")],
    )
    .at(Turn::Lane(1))
    .kept_by("skip_cleanup_mail"),
    rule(
        "credentials",
        "cloud, registry and git credentials of root and users",
        r#"
homes | while IFS= read -r home; do
  wipe "$home/.aws/credentials" "$home/.docker/config.json" "$home/.config/containers/auth.json" "$home/.git-credentials" "$home/.netrc"
  wipe "$home/.config/gcloud/credentials.db" "$home/.config/gcloud/access_tokens.db" "$home/.config/gcloud/application_default_credentials.json"
  wipe "$home/.azure/accessTokens.json" "$home/.azure/msal_token_cache.json" "$home/.pypirc" "$home/.npmrc" "$home/.cargo/credentials.toml"
done"#,
        &[
            Gone("~/.aws/credentials"),
            Gone("~/.docker/config.json"),
            Gone("~/.config/containers/auth.json"),
            Gone("~/.git-credentials"),
            Gone("~/.netrc"),
            Gone("~/.config/gcloud/credentials.db"),
            Gone("~/.config/gcloud/access_tokens.db"),
            Gone("~/.config/gcloud/application_default_credentials.json"),
            Gone("~/.azure/accessTokens.json"),
            Gone("~/.azure/msal_token_cache.json"),
            Gone("~/.pypirc"),
            Gone("~/.npmrc"),
            Gone("~/.cargo/credentials.toml"),
        ],
    )
    .at(Turn::Lane(1))
    .kept_by("skip_cleanup_credentials"),
    rule(
        "histories",
        "histories of shells and tools",
        r#"
homes | while IFS= read -r home; do
  wipe "$home"/.*_history "$home/.zhistory" "$home/.history" "$home/.lesshst" "$home/.viminfo" "$home/.wget-hsts" \
       "$home/.local/share/fish/fish_history" "$home/.local/state/lesshst"
done"#,
        &[
            Gone("~/.*_history"),
            Gone("~/.zhistory"),
            Gone("~/.history"),
            Gone("~/.lesshst"),
            Gone("~/.viminfo"),
            Gone("~/.wget-hsts"),
            Gone("~/.local/share/fish/fish_history"),
            Gone("~/.local/state/lesshst"),
        ],
    )
    .at(Turn::Lane(1))
    .kept_by("skip_cleanup_histories"),
    rule(
        "user-caches",
        "the caches of root and users (~/.cache); some programs keep there what they need",
        r#"homes | while IFS= read -r home; do rm -rf "$home/.cache"; done"#,
        &[Gone("~/.cache")],
    )
    .at(Turn::Lane(1))
    .optional(),
    rule(
        "containers",
        "locks of container storage, caches of snap and flatpak",
        r#"
# Not deeper: below lie the files of images, whose own locks (Gemfile.lock, yarn.lock) belong to them.
for storage in /var/lib/containers/storage /root/.local/share/containers/storage; do rm -f "$storage"/*.lock "$storage"/overlay-*/*.lock; done
rm -rf /var/lib/snapd/cache/* /var/cache/snapd/* /var/tmp/flatpak-cache-* 2>/dev/null; true"#,
        &[
            Gone("/var/lib/containers/storage/*.lock"),
            Gone("/var/lib/containers/storage/overlay-*/*.lock"),
            Gone("/root/.local/share/containers/storage/*.lock"),
            Gone("/root/.local/share/containers/storage/overlay-*/*.lock"),
            Gone("/var/lib/snapd/cache/*"),
            Gone("/var/cache/snapd/*"),
        ],
    )
    .at(Turn::Lane(1)),
    rule(
        "packages",
        "package caches and lists",
        r#"
if command -v apt-get >/dev/null 2>&1; then apt-get clean; rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old; fi
if command -v dnf >/dev/null 2>&1; then dnf -q clean all; elif command -v yum >/dev/null 2>&1; then yum -q clean all; fi
if command -v zypper >/dev/null 2>&1; then zypper -q clean --all; fi
rm -rf /var/cache/dnf/* /var/cache/yum/* /var/cache/apk/* /var/lib/dnf/history* /var/cache/man/*"#,
        &[
            Gone("/var/cache/apt/archives/*.deb"),
            Gone("/var/cache/apt/*.bin"),
            Gone("/var/lib/apt/lists/*_Packages"),
            Gone("/var/cache/dnf/*"),
            Gone("/var/cache/yum/*"),
            Gone("/var/cache/apk/*"),
        ],
    )
    .at(Turn::Lane(1))
    .kept_by("skip_cleanup_package_cache"),
    rule(
        "bake-settings",
        "settings that make the bake quicker",
        "rm -f /etc/dpkg/dpkg.cfg.d/zz-ovenbird-bake /etc/apt/apt.conf.d/zz-ovenbird-bake",
        &[
            Gone("/etc/dpkg/dpkg.cfg.d/zz-ovenbird-bake"),
            Gone("/etc/apt/apt.conf.d/zz-ovenbird-bake"),
        ],
    )
    .at(Turn::Lane(1)),
    rule(
        "cron-spool",
        "jobs of at and cron that users have left",
        "rm -rf /var/spool/cron/crontabs/* /var/spool/cron/atjobs/* /var/spool/at/* /var/spool/cron/atspool/*",
        &[
            Gone("/var/spool/cron/crontabs/*"),
            Gone("/var/spool/cron/atjobs/*"),
        ],
    )
    .at(Turn::Lane(1))
    .optional(),
    rule(
        "backup-files",
        "backups that editors leave in /etc and the homes",
        r#"find /etc /root /home -xdev -type f \( -name '*~' -o -name '*.bak' -o -name '.*.swp' \) -delete 2>/dev/null; true"#,
        &[Gone("/etc/*~"), Gone("/etc/*.bak"), Gone("/root/*~")],
    )
    .at(Turn::Lane(1))
    .optional(),
    rule(
        "ssh-folders",
        "the whole ~/.ssh of root and users, keys and known hosts as well",
        r#"homes | while IFS= read -r home; do [ -d "$home/.ssh" ] && { find "$home/.ssh" -type f -exec shred -zuf -n 1 {} + ; rm -rf "$home/.ssh"; }; done; true"#,
        &[Gone("~/.ssh")],
    )
    .at(Turn::Lane(1))
    .optional(),
    rule(
        "configuration-management",
        "identities and state of Puppet, Chef and Salt",
        "rm -rf /etc/puppetlabs/puppet/ssl /var/lib/puppet/ssl /opt/puppetlabs/puppet/cache /etc/chef/client.pem /var/chef/cache /etc/salt/pki/minion /etc/salt/minion_id",
        &[
            Gone("/etc/puppetlabs/puppet/ssl"),
            Gone("/var/lib/puppet/ssl"),
            Gone("/etc/chef/client.pem"),
            Gone("/etc/salt/pki/minion"),
            Gone("/etc/salt/minion_id"),
        ],
    )
    .at(Turn::Lane(1))
    .optional(),
    rule(
        "swap",
        "the content of swap files and partitions",
        // Written anew as empty swap with the same identity, so that fstab still fits.
        r#"
awk '$3 == "swap" && $1 !~ /^#/ {print $1}' /etc/fstab 2>/dev/null | while read -r name; do
  case "$name" in
    *=*) device=$(findfs "$name" 2>/dev/null) ;;
    *) device=$name ;;
  esac
  [ -e "$device" ] || continue
  swapoff "$device" 2>/dev/null
  uuid=$(blkid -s UUID -o value "$device"); label=$(blkid -s LABEL -o value "$device")
  if [ -f "$device" ]; then size=$(stat -c %s "$device"); fallocate -p -o 0 -l "$size" "$device"; fallocate -l "$size" "$device"; else blkdiscard -f "$device" 2>/dev/null || dd if=/dev/zero of="$device" bs=1M 2>/dev/null; fi
  mkswap ${uuid:+-U "$uuid"} ${label:+-L "$label"} "$device" >/dev/null
done"#,
        &[Nothing],
    )
    .at(Turn::Lane(1)),
    rule(
        "bake-user",
        "the user that the bake logged in as, with its home, group and sudoers entry",
        r#"
if id "$U" >/dev/null 2>&1; then
  wipe "/home/$U/.ssh/authorized_keys"
  userdel -rf "$U" >/dev/null 2>&1 || deluser --remove-home "$U" >/dev/null 2>&1
  groupdel "$U" >/dev/null 2>&1
  rm -rf "/home/$U" "/var/mail/$U" "/var/spool/mail/$U"
  rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
fi
if grep -q "^$U:" /etc/passwd; then echo "the user $U is still there" >&2; exit 1; fi
rm -f "/etc/sudoers.d/$U" /etc/sudoers.d/90-cloud-init-users"#,
        &[
            NoLine("/etc/passwd", "ovenbird:"),
            NoLine("/etc/shadow", "ovenbird:"),
            NoLine("/etc/group", "ovenbird:"),
            NoLine("/etc/subuid", "ovenbird:"),
            Gone("/home/ovenbird"),
            Gone("/etc/sudoers.d/ovenbird"),
        ],
    )
    .at(Turn::Lane(2)),
    rule(
        "agent",
        "the guest agent with its state, logs and documents",
        r#"rm -rf "$A""#,
        &[Gone("/var/lib/ovenbird")],
    )
    .at(Turn::Last),
    rule(
        "temporary",
        "everything in /tmp and /var/tmp, and the clean-up's own markers",
        r#"
for folder in /tmp /var/tmp; do find "$folder" -xdev -mindepth 1 -delete 2>/dev/null; done
[ -n "$W" ] && rm -f "$W"/skip_cleanup_* "$W"/perform_cleanup"#,
        &[Gone("/tmp/*"), Gone("/var/tmp/*")],
    )
    .at(Turn::Last)
    .kept_by("skip_cleanup_temporary_files"),
    rule(
        "machine-id",
        "the machine id: an empty file, filled by the next boot",
        r#"
: > /etc/machine-id
[ -e /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ] && rm -f /var/lib/dbus/machine-id && ln -s /etc/machine-id /var/lib/dbus/machine-id
true"#,
        &[Hollow("/etc/machine-id"), Hollow("/var/lib/dbus/machine-id")],
    )
    .at(Turn::Last)
    .kept_by("skip_cleanup_machine_id"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_table() {
        let page = include_str!("../../../docs/trust.md");
        let (_, rest) = page.split_once("<!-- rules -->\n").unwrap();
        let (table, _) = rest.split_once("<!-- end of rules -->").unwrap();
        let mut wanted = "| rule | what goes | kept by |\n|---|---|---|\n".to_owned();
        for rule in &RULES {
            let kept = match rule.marker {
                Some(marker) => format!("`{marker}`"),
                None if rule.optional => "applied only if asked for".into(),
                None => String::new(),
            };
            wanted += &format!("| `{}` | {} | {kept} |\n", rule.id, rule.what);
        }
        assert_eq!(table, wanted);
    }
}
