//! A disk from a registry that a guest boots from.

use super::proxy::Proxy;
use super::server::Server;
use super::{digest, pushed};
use crate::setup::{self, find};

#[test]
fn guest_boots_from_a_base_that_came_from_a_registry() {
    let setup = setup::with_base();
    // The base comes from the registry here, so the shelf must be empty.
    let shared = setup.home().join("bases").read_link_utf8().unwrap();
    std::fs::remove_file(setup.home().join("bases")).unwrap();
    let disk = find(&shared.join("debian-12"), &|path| {
        path.file_name() == Some("disk.qcow2")
    })
    .pop()
    .unwrap();

    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let reference = format!("{}/disks/debian:12", proxy.host());
    let push = ["push", disk.as_str(), &reference, "--json"];
    let first = pushed(setup.run(&push));
    proxy.forget();
    let again = pushed(setup.run(&push));
    assert_eq!(again["pushed"]["digest"], first["pushed"]["digest"]);
    assert_eq!(again["pushed"]["blobs"]["sent"], 0);
    assert_eq!(proxy.blob_bytes(), 0, "the second push sends no blob");

    setup
        .run(&["base", "import", &format!("oci://{reference}"), "pulled"])
        .expect(0);
    let base = setup.home().join("bases/pulled/1.0.0/disk.qcow2");
    assert_eq!(digest(&setup, &disk), digest(&setup, &base));
    setup.file(
        "hello.yml",
        "name: Hello
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Say
        action: ExecuteBash
        inputs:
          commands: ['echo I run on $(. /etc/os-release; echo $ID)']
",
    );
    let run = ["component", "run", "--in", "pulled", "hello.yml", "-v"];
    let ran = setup.run(&run).expect(0);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("I run on debian"), "{said}");
    setup.assert_nothing_left();
}
