//! A server for `benches/ebs.sh`: the EBS direct APIs with the service's rules; blocks are counted, not kept, and every
//! eighth's checksum is computed: it is the clients that are to be measured.
//!
//! Prints its address. For each line on standard input it prints how many blocks it got since the last, and ends with it.

#[path = "../tests/it/ebs_server/mod.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod ebs_server;

use std::io::BufRead as _;

use ebs_server::{EbsServer, Fault};

fn main() {
    // The service takes about this long for a put; an argument says otherwise.
    let pause = std::env::args()
        .nth(1)
        .map_or(0, |text| text.parse().expect("milliseconds"));
    let server = EbsServer::start(move |call, _| {
        (pause > 0 && call == "PutSnapshotBlock").then_some(Fault::Slow(pause))
    });
    server.state.lock().expect("state").forgetful = true;
    println!("{}", server.endpoint());
    let mut before = 0;
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            return;
        }
        let now = server.count("PutSnapshotBlock");
        println!("{}", now - before);
        before = now;
    }
}
