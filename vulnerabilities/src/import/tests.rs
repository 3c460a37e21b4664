use std::io::Write as _;

use ::zip::ZipWriter;
use ::zip::write::SimpleFileOptions;

use super::*;
use crate::database::Database;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What was read, or the error; and the database if it could be finished.
    fn import(&self, path: &Path) -> (Result<Imported, ImportError>, Option<Database>) {
        let file = self.0.path().join("db/vulnerabilities.sqlite");
        let mut builder = Builder::new(&file).unwrap();
        let read = import(path, "here", &mut builder, &mut |_| true);
        let finished = builder.finish("2026-01-01T00:00:00Z", "test 1");
        let database = finished.ok().map(|()| Database::open(&file).unwrap());
        (read, database)
    }

    fn counts(&self, path: &Path) -> [u64; 5] {
        let source = self.import(path).0.unwrap().source;
        [
            source.records,
            source.used,
            source.unused,
            source.withdrawn,
            source.damaged,
        ]
    }
}

fn record(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","modified":"2024-01-01T00:00:00Z","affected":[{{"package":{{"ecosystem":"npm","name":"left"}},"versions":["1.0.0"]}}]}}"#
    )
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn records_come_in_many_forms() {
    let place = Place::new();
    let [one, two, three] = ["A-1", "A-2", "A-3"].map(record);
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&one).unwrap())
            .unwrap();
    for (name, text, count) in [
        ("one.json", one.clone(), 1),
        ("pretty.json", format!("\n{pretty}\n"), 1),
        ("lines.jsonl", format!("{one}\n\n{two}\n{three}"), 3),
        ("list.json", format!(" [{one},\n{two}]"), 2),
        ("empty-list.json", "[]".to_owned(), 0),
    ] {
        let path = place.write(name, &text);
        if count == 0 {
            assert!(matches!(
                place.import(&path).0,
                Err(ImportError::AllDamaged { .. })
            ));
            continue;
        }
        assert_eq!(place.counts(&path), [count, count, 0, 0, 0], "{name}");
    }
    let path = place.write(
        "all.zip",
        zipped(&[
            ("A-1.json", one.as_bytes()),
            ("README", b"x"),
            ("A-2.json", two.as_bytes()),
        ]),
    );
    assert_eq!(place.counts(&path), [2, 2, 0, 0, 0]);
}

#[test]
fn a_folder_with_everything_has_a_digest_of_its_own() {
    let place = Place::new();
    place.write("in/npm/A-1.json", record("A-1"));
    place.write("in/npm/A-2.json", record("A-2"));
    place.write("in/notes.txt", "nothing");
    place.write(
        "in/gone.json",
        r#"{"id":"A-4","withdrawn":"2024-01-01T00:00:00Z"}"#,
    );
    place.write("in/java.json", record("A-5").replace("npm", "Maven"));
    place.write("in/broken.json", r#"{"id":"A-6","affected":[{"#);
    place.write("in/no.json", "<html>");
    place.write(
        "in/all.zip",
        zipped(&[("A-3.json", record("A-3").as_bytes())]),
    );
    let folder = place.0.path().join("in");
    let imported = place.import(&folder).0.unwrap();
    assert_eq!(place.counts(&folder), [7, 3, 1, 1, 2]);
    assert_eq!(
        imported.source.newest.as_deref(),
        Some("2024-01-01T00:00:00Z")
    );
    assert_eq!(imported.complaints.len(), 2);
    place.write("in/npm/A-2.json", record("A-2").replace("left", "right"));
    let changed = place.import(&folder).0.unwrap();
    assert_ne!(changed.source.sha256, imported.source.sha256);
    assert!(matches!(
        place.import(&place.0.path().join("db")).0,
        Err(ImportError::Foreign { .. })
    ));
}

#[test]
fn the_tracker_is_known_by_its_form() {
    let place = Place::new();
    let path = place.write(
        "tracker.json",
        r#"{"id": {"CVE-1": {"releases": {"bookworm": {"status": "open", "urgency": "low"}}}},
            "openssl": {"CVE-1": {"description": "d", "releases": {"bookworm": {"status": "resolved", "fixed_version": "3.0.1-1"}}},
                        "CVE-2": {"releases": {"hamm": {"status": "open"}}},
                        "CVE-3": {"releases": {"sid": {"status": "what"}}}}}"#,
    );
    let (imported, database) = place.import(&path);
    let source = imported.unwrap().source;
    assert_eq!(
        (source.records, source.used, source.unused, source.damaged),
        (4, 2, 1, 1)
    );
    let ecosystems = database.unwrap().ecosystems().unwrap();
    assert_eq!(ecosystems[0].ecosystem, "debian:12");
    assert_eq!(ecosystems[0].advisories, 2);
}

/// What of a source is missing can't be known: an older database is worth more than the rest of it.
#[test]
fn what_is_cut_off_is_an_error() {
    let place = Place::new();
    let [one, two] = ["A-1", "A-2"].map(record);
    let tracker = r#"{"curl": {"CVE-1": {"releases": {"bookworm": {"status": "open"}}}}, "zlib": {"CVE-2": {}}}"#;
    for (name, text) in [
        ("list.json", format!("[{one},{}", &two[..40])),
        ("list.json", format!("[{one}")),
        ("list.json", format!("[{one},")),
        ("list.json", format!("[{one}, {{x}}, {two}]")),
        ("list.json", format!("[{one}] x")),
        ("lines.jsonl", format!("{one}\n{}", &two[..40])),
        ("lines.jsonl", format!("{one}\n{{")),
        ("tracker.json", tracker[..30].to_owned()),
        ("tracker.json", tracker[..75].to_owned()),
        ("tracker.json", tracker[..tracker.len() - 1].to_owned()),
        ("tracker.json", tracker.replace("zlib", "\u{1}")),
    ] {
        // A folder has other files, with which it may not be taken for sound.
        let folder = tempfile::tempdir_in(place.0.path()).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &text).unwrap();
        std::fs::write(folder.path().join("good.json"), &one).unwrap();
        for source in [path.as_path(), folder.path()] {
            let error = place.import(source).0.unwrap_err();
            assert!(
                matches!(&error, ImportError::Io { path: told, .. } if *told == path),
                "{text}: {error}"
            );
        }
    }
    let sound = place.write("tracker.json", tracker);
    assert_eq!(place.counts(&sound), [2, 1, 1, 0, 0]);
}

/// One record that is damaged is told, and the others count.
#[test]
fn a_damaged_record_among_sound_ones_is_left_out() {
    let place = Place::new();
    let [one, two] = ["A-1", "A-2"].map(record);
    for (name, text) in [
        ("lines.jsonl", format!("{one}\n{}\n{two}", &two[..40])),
        ("lines.jsonl", format!("{{x\n{one}\n{two}\n")),
        ("list.json", format!(r#"[{one}, {{"id": 5}}, {two}]"#)),
    ] {
        let path = place.write(name, &text);
        assert_eq!(place.counts(&path), [3, 2, 0, 0, 1], "{text}");
    }
    let mut zip = zipped(&[("A-1.json", one.as_bytes()), ("A-2.json", two.as_bytes())]);
    // A byte of the first entry's data.
    zip[60] ^= 0xff;
    let path = place.write("all.zip", &zip);
    assert_eq!(place.counts(&path), [2, 1, 0, 0, 1]);
}

#[test]
fn a_damaged_archive_is_an_error_in_a_folder_too() {
    let place = Place::new();
    let folder = place.0.path().join("in");
    place.write("in/npm/A-3.json", record("A-3"));
    let [one, two] = ["A-1", "A-2"].map(record);
    let sound = zipped(&[("A-1.json", one.as_bytes()), ("A-2.json", two.as_bytes())]);
    let mut damaged = sound.clone();
    let second = damaged.windows(8).position(|name| name == b"A-2.json");
    for entry in [60, second.unwrap() + 20] {
        damaged[entry] ^= 0xff;
    }
    for (name, bytes, what) in [
        ("all.zip", &sound[..100], "a damaged zip"),
        ("all.zip", b"<html>", "no JSON and no zip"),
        ("all.zip", b"", "empty"),
        ("lines.jsonl", b"<html>", "no JSON and no zip"),
        ("lines.jsonl", &one.as_bytes()[..40], "none of 1 records"),
        ("all.zip", &damaged, "none of 2 records"),
    ] {
        let path = place.write(&format!("in/Debian/{name}"), bytes);
        for source in [&path, &folder] {
            let error = place.import(source).0.unwrap_err().to_string();
            assert!(error.contains(what) && error.contains(name), "{error}");
        }
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn other_files_are_told_from_ours() {
    let place = Place::new();
    for (bytes, what) in [
        (&b""[..], "is empty"),
        (b"   ", "is empty"),
        (b"\x7fELF", "is no JSON and no zip"),
        (b"{\"a\": 1}", "none of 1 records can be read"),
    ] {
        let path = place.write("x.json", bytes);
        let error = place.import(&path).0.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let error = place.import(&place.0.path().join("missing")).0.unwrap_err();
    assert!(matches!(error, ImportError::Io { .. }));
}

/// An entry that unpacks to more than any record has is left out, and does not fill memory.
#[test]
fn an_archive_can_not_blow_up() {
    let place = Place::new();
    let bomb = vec![b' '; usize::try_from(LARGEST_RECORD).unwrap() + 10];
    let zip = zipped(&[("bomb.json", &bomb), ("A-1.json", record("A-1").as_bytes())]);
    assert!(zip.len() < 100_000);
    let path = place.write("all.zip", &zip);
    let imported = place.import(&path).0.unwrap();
    assert_eq!((imported.source.used, imported.source.damaged), (1, 1));
    assert!(imported.complaints[0].contains("more than"));
    let path = place.write("list.json", [b"[", bomb.as_slice(), b"]"].concat());
    match place.import(&path).0 {
        Err(ImportError::Io { source, .. }) => {
            assert!(source.to_string().contains("a record of more than"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_wants_it_to_end_is_heard() {
    let place = Place::new();
    let lines: String = (0..600).map(|n| record(&format!("A-{n}")) + "\n").collect();
    let path = place.write("lines.jsonl", lines);
    let file = place.0.path().join("vulnerabilities.sqlite");
    let mut builder = Builder::new(&file).unwrap();
    let mut seen = 0;
    let read = import(&path, "here", &mut builder, &mut |source| {
        seen = source.records;
        source.records < 512
    });
    assert!(matches!(read, Err(ImportError::Stopped)));
    assert_eq!(seen, 512);
    drop(builder);
    // Nothing is left of it.
    assert_eq!(std::fs::read_dir(place.0.path()).unwrap().count(), 1);
}
