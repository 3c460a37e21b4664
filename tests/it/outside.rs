//! A finished disk outside of Ovenbird: plain QEMU, its own seed, the host's ssh.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird::guest::seed::Seed;

use crate::setup::{tool, wait_for};

/// A machine that knows nothing of Ovenbird.
pub struct Outside {
    qemu: Child,
    port: u16,
    key: Utf8PathBuf,
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Where the firmware's files of Debian and Ubuntu are.
const OVMF: [(&str, &str); 2] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
];

impl Outside {
    /// Boots a clone of `disk` (an overlay on it) and waits until its user can log in.
    pub fn boot(disk: &Utf8Path, format: &str, uefi: bool, nvme: bool, folder: &Utf8Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let key = folder.join("key");
        tool(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", key.as_str()],
        );
        let public = std::fs::read_to_string(folder.join("key.pub")).unwrap();
        // No host key in this seed: the guest has to make its own.
        let seed = Seed {
            meta_data: format!(
                "instance-id: {}\nlocal-hostname: clone\n",
                folder.file_name().unwrap()
            ),
            user_data: format!(
                "#cloud-config\nusers:\n- name: someone\n  shell: /bin/bash\n  sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n  ssh_authorized_keys: [\"{}\"]\n",
                public.trim()
            ),
        };
        seed.write(&folder.join("seed.img")).unwrap();
        let overlay = folder.join("clone.qcow2");
        tool(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                format,
                "-b",
                disk.as_str(),
                overlay.as_str(),
            ],
        );
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let accelerator = if usable_kvm() {
            "kvm"
        } else {
            "tcg,thread=multi"
        };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-machine",
                "q35",
                "-accel",
                accelerator,
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                "1024",
            ])
            .args(["-nodefaults", "-display", "none"])
            .args(["-serial", &format!("file:{folder}/console.log")])
            .args([
                "-netdev",
                &format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22"),
            ])
            .args(["-device", "virtio-net-pci,netdev=n"])
            .args([
                "-drive",
                &format!("id=root,if=none,format=qcow2,cache=unsafe,file={overlay}"),
            ])
            .args([
                "-device",
                if nvme {
                    "nvme,drive=root,serial=root,bootindex=1"
                } else {
                    "virtio-blk-pci,drive=root,bootindex=1"
                },
            ])
            .args([
                "-drive",
                &format!("if=virtio,format=raw,readonly=on,file={folder}/seed.img"),
            ]);
        if uefi {
            let (code, vars) = OVMF
                .into_iter()
                .find(|(code, _)| Utf8Path::new(code).exists())
                .expect("OVMF is installed (`make setup`)");
            let own = folder.join("vars.fd");
            std::fs::copy(vars, &own).unwrap();
            command
                .args([
                    "-drive",
                    &format!("if=pflash,format=raw,readonly=on,file={code}"),
                ])
                .args(["-drive", &format!("if=pflash,format=raw,file={own}")]);
        }
        let qemu = command.stdin(Stdio::null()).spawn().unwrap();
        let mut machine = Self { qemu, port, key };
        wait_for("the clone's SSH", Duration::from_secs(420), || {
            if let Some(status) = machine.qemu.try_wait().unwrap() {
                panic!("QEMU ended: {status}");
            }
            machine.ssh("true")
        });
        machine
    }

    /// Runs a command in the guest; `None` if it fails.
    pub fn ssh(&self, command: &str) -> Option<String> {
        let output = Command::new("ssh")
            .args([
                "-F",
                "/dev/null",
                "-i",
                self.key.as_str(),
                "-p",
                &self.port.to_string(),
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args([
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=5",
                "-o",
                "LogLevel=ERROR",
            ])
            .args(["someone@127.0.0.1", command])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .expect("ssh is installed (`make setup`)");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Asks the program's own probe: a device that opens may still crawl.
fn usable_kvm() -> bool {
    let output = Command::new(crate::setup::program())
        .args(["doctor", "--json"])
        .env(
            "OVENBIRD_HOME",
            std::env::temp_dir().join("ovenbird-test-probe"),
        )
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["accelerator"]["accelerator"] == "kvm"
}
