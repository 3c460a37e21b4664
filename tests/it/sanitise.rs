//! The clean-up in a real guest: what it may not leave, and what it is told to leave.

use camino::Utf8Path;

use crate::setup::{self, Setup};

/// What the guest is left with. The syslog daemon stands for all whose sockets start them again when somebody writes to them,
/// here the journal; the markers are the service's and our own.
const PREPARE: &str = r#"
name: prepare
schemaVersion: 1.0
phases:
- name: build
  steps:
  - name: ADaemonThatItsSocketStarts
    action: ExecuteBash
    inputs:
      commands:
      - |
        cat > /etc/systemd/system/syslog.service << 'UNIT'
        [Unit]
        Requires=syslog.socket
        [Service]
        ExecStart=/bin/sh -c 'while :; do date >> /var/log/syslog; sleep 0.1; done'
        UNIT
        mkdir -p /etc/systemd/journald.conf.d
        printf '[Journal]\nForwardToSyslog=yes\n' > /etc/systemd/journald.conf.d/forward.conf
        systemctl daemon-reload
        systemctl restart systemd-journald.service
        systemctl start syslog.socket
        logger this starts it
        n=0
        until [ -s /var/log/syslog ]; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.2; done
  - name: WhatIsLeftBehind
    action: ExecuteBash
    inputs:
      commands:
      - echo secret-command > /root/.bash_history
      - mkdir -p /var/mail && echo mail > /var/mail/root
      - echo token > /home/ovenbird/.lesshst
      - echo root:secret > /root/.netrc
      - mkdir -p /root/.cache/browsers /srv/app/.ssh && echo kept > /root/.cache/browsers/one
      - useradd --system --home-dir /srv/app --shell /bin/sh app
      - echo ssh-ed25519 AAAA > /srv/app/.ssh/authorized_keys2
      - mkdir -p /etc/iscsi && echo InitiatorName=iqn.1993-08.org.debian:01:abc > /etc/iscsi/initiatorname.iscsi
      - layer=/var/lib/containers/storage/overlay/0/diff/app && mkdir -p $layer && echo lock > $layer/Gemfile.lock
      - mkdir -p /var/lib/containers/storage/overlay-images && touch /var/lib/containers/storage/overlay-images/images.lock
      - touch /tmp/skip_cleanup_histories /tmp/skip_cleanup_machine_id
"#;

const RECIPE: &str = "kind: ImageRecipe
name: kept
semanticVersion: 1.0.0
parentImage: debian-12
components: [{path: prepare.yml}]
local: {memory: 1GiB, tests: false, outputs: [raw], sanitise: {skip: [mail]}}
";

/// What a file of the disk holds; nothing if it is not there.
fn cat(setup: &Setup, disk: &Utf8Path, path: &str) -> Option<String> {
    let ran = setup.run(&["disk", "cat", disk.as_str(), path]);
    if ran.code == Some(0) {
        return Some(ran.stdout);
    }
    ran.says("no such file");
    None
}

#[test]
fn guest_is_cleaned_of_all_that_no_marker_keeps() {
    let setup = setup::with_base();
    setup.file("prepare.yml", PREPARE);
    let recipe = setup.file("recipe.yml", RECIPE);
    let target = setup.path().join("out");
    let ran = setup
        .run(&["build", recipe.as_str(), "--destination", target.as_str()])
        .expect(0);
    ran.says("30 rules, 8 kept");
    let manifest = ovenbird::output::Manifest::read(&target).unwrap();
    let kept: Vec<&str> = manifest
        .sanitised
        .iter()
        .filter(|rule| !rule.done)
        .map(|rule| rule.id.as_str())
        .collect();
    // Five are only done where a recipe asks for them.
    let unasked = [
        "cron-spool",
        "backup-files",
        "ssh-folders",
        "configuration-management",
        "user-caches",
    ];
    let told: Vec<&str> = kept
        .into_iter()
        .filter(|id| !unasked.contains(id))
        .collect();
    assert_eq!(told, ["mail", "histories", "machine-id"]);
    let verified = |id: &str| {
        manifest
            .sanitised
            .iter()
            .any(|rule| rule.id == id && rule.verified)
    };
    assert!(verified("logs") && verified("credentials"));
    assert!(told.iter().all(|id| !verified(id)));

    let disk = target.join(&manifest.files[0].path);
    let cat = |path: &str| cat(&setup, &disk, path);
    assert_eq!(
        cat("/root/.bash_history").as_deref(),
        Some("secret-command\n")
    );
    assert_eq!(cat("/var/mail/root").as_deref(), Some("mail\n"));
    let id = cat("/etc/machine-id").unwrap();
    assert_eq!(id.trim().len(), 32, "{id}");
    assert_eq!(cat("/root/.netrc"), None);
    assert_eq!(cat("/root/.cache/browsers/one").as_deref(), Some("kept\n"));
    // The home of a service counts as well, and a container's files are not the container storage's.
    assert_eq!(cat("/srv/app/.ssh/authorized_keys2"), None);
    assert_eq!(
        cat("/etc/iscsi/initiatorname.iscsi").as_deref(),
        Some("GenerateName=yes\n")
    );
    let storage = "/var/lib/containers/storage";
    assert_eq!(cat(&format!("{storage}/overlay-images/images.lock")), None);
    assert_eq!(
        cat(&format!("{storage}/overlay/0/diff/app/Gemfile.lock")).as_deref(),
        Some("lock\n")
    );
    assert_eq!(
        cat("/home/ovenbird/.lesshst"),
        None,
        "its home went with the user"
    );
    assert_eq!(cat("/tmp/skip_cleanup_histories"), None);
    // Its socket would have started it again, with what the journal says of its end.
    assert_eq!(cat("/var/log/syslog").as_deref(), Some(""));
    assert!(cat("/etc/systemd/system/syslog.service").is_some());
}
