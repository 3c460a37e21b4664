use std::collections::BTreeMap;

use super::super::test_server::{Behaviour, Server};
use super::*;
use crate::catalog::progress::Silent;

const PATH: &str = "/images/disk.qcow2";
const URL: &str = "https://images.example/images/disk.qcow2";

fn content(seed: u8) -> Vec<u8> {
    (0..200_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect()
}

fn behaviour() -> Behaviour {
    Behaviour {
        files: BTreeMap::from([(PATH.to_owned(), content(0))]),
        etag: Some("\"one\"".into()),
        ..Behaviour::default()
    }
}

struct Fixture {
    server: Server,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new(behaviour: Behaviour) -> Self {
        Self {
            server: Server::start(behaviour).await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn fetch(&self) -> Result<Vec<u8>> {
        let mut fetcher = Fetcher::new(Some(&self.server.base)).unwrap();
        fetcher.pause = Duration::from_millis(1);
        let folder = Utf8Path::from_path(self.folder.path()).unwrap();
        let download = fetcher.file(URL, folder, &Silent).await?;
        Ok(std::fs::read(&download.path).unwrap())
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.server
            .seen()
            .into_iter()
            .map(|seen| seen.range)
            .collect()
    }
}

fn range(start: usize) -> Option<String> {
    Some(format!("bytes={start}-"))
}

#[tokio::test]
async fn a_cut_connection_is_continued_where_it_broke() {
    let fixture = Fixture::new(Behaviour {
        cuts: [70_000, 50_000].into(),
        ..behaviour()
    })
    .await;
    assert!(fixture.fetch().await.unwrap() == content(0));
    assert_eq!(fixture.ranges(), [None, range(70_000), range(120_000)]);
    assert_eq!(
        fixture.server.seen()[1].if_range.as_deref(),
        Some("\"one\"")
    );
}

#[tokio::test]
async fn a_killed_process_is_continued_by_the_next() {
    let fixture = Fixture::new(Behaviour {
        cuts: [70_000, 0, 0, 0, 0, 0, 0].into(),
        ..behaviour()
    })
    .await;
    let error = fixture.fetch().await.unwrap_err();
    assert!(
        matches!(error, CatalogError::Interrupted { at: 70_000, .. }),
        "{error}"
    );
    let before = fixture.server.seen().len();
    fixture.server.change(|behaviour| behaviour.cuts.clear());
    assert!(fixture.fetch().await.unwrap() == content(0));
    assert_eq!(fixture.ranges()[before..], [range(70_000)]);
    // And once it is complete, nothing is asked for any more.
    assert!(fixture.fetch().await.unwrap() == content(0));
    assert_eq!(fixture.ranges().len(), before + 1);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_starts_afresh() {
    let fixture = Fixture::new(Behaviour {
        cuts: [70_000].into(),
        ignores_ranges: true,
        ..behaviour()
    })
    .await;
    assert!(fixture.fetch().await.unwrap() == content(0));
    assert_eq!(fixture.ranges(), [None, range(70_000)]);
}

#[tokio::test]
async fn a_file_that_changed_in_between_is_not_pasted_together() {
    for ignores_if_range in [false, true] {
        let fixture = Fixture::new(Behaviour {
            cuts: [70_000, 0, 0, 0, 0, 0].into(),
            ..behaviour()
        })
        .await;
        fixture.fetch().await.unwrap_err();
        fixture.server.change(|behaviour| {
            behaviour.cuts.clear();
            behaviour.etag = Some("\"two\"".into());
            behaviour.files.insert(PATH.into(), content(0x55));
            behaviour.ignores_if_range = ignores_if_range;
        });
        assert!(
            fixture.fetch().await.unwrap() == content(0x55),
            "ignores If-Range: {ignores_if_range}"
        );
    }
}

#[tokio::test]
async fn without_a_validator_nothing_is_continued() {
    for etag in [None, Some("W/\"weak\"".to_owned())] {
        let fixture = Fixture::new(Behaviour {
            cuts: [70_000].into(),
            etag,
            ..behaviour()
        })
        .await;
        assert!(fixture.fetch().await.unwrap() == content(0));
        assert_eq!(fixture.ranges(), [None, None]);
    }
}

#[tokio::test]
async fn a_part_that_begins_elsewhere_is_thrown_away() {
    let fixture = Fixture::new(Behaviour {
        cuts: [70_000].into(),
        wrong_start: Some(10),
        ..behaviour()
    })
    .await;
    assert!(fixture.fetch().await.unwrap() == content(0));
    assert_eq!(fixture.ranges(), [None, range(70_000), None]);
}

#[tokio::test]
async fn a_partial_file_longer_than_the_whole_is_thrown_away() {
    let fixture = Fixture::new(Behaviour {
        cuts: [70_000, 0, 0, 0, 0, 0].into(),
        ..behaviour()
    })
    .await;
    fixture.fetch().await.unwrap_err();
    fixture.server.change(|behaviour| {
        behaviour.cuts.clear();
        behaviour.files.insert(PATH.into(), b"short".to_vec());
    });
    assert_eq!(fixture.fetch().await.unwrap(), b"short");
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_missing_file_is_not() {
    let fixture = Fixture::new(Behaviour {
        statuses: [503, 429, 500].into(),
        ..behaviour()
    })
    .await;
    assert!(fixture.fetch().await.unwrap() == content(0));

    let fixture = Fixture::new(Behaviour {
        statuses: [404].into(),
        ..behaviour()
    })
    .await;
    let error = fixture.fetch().await.unwrap_err();
    assert!(
        matches!(&error, CatalogError::Refused { answer, .. } if answer.starts_with("404")),
        "{error}"
    );
    assert_eq!(fixture.ranges().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut fetcher = Fetcher::new(Some(&format!("http://127.0.0.1:{port}/"))).unwrap();
    fetcher.pause = Duration::from_millis(1);
    let error = fetcher.text(URL).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot fetch http://127.0.0.1:{port}{PATH}")
    );
}

#[tokio::test]
async fn two_processes_do_not_write_one_file() {
    let fixture = Fixture::new(behaviour()).await;
    let folder = Utf8Path::from_path(fixture.folder.path()).unwrap();
    let fetcher = Fetcher::new(Some(&fixture.server.base)).unwrap();
    let held = fetcher.file(URL, folder, &Silent).await.unwrap();
    assert!(matches!(
        fetcher.file(URL, folder, &Silent).await,
        Err(CatalogError::InUse { .. })
    ));
    held.discard();
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}
