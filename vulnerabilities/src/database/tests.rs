use super::*;
use crate::advisory::{Event, Kind, Range, Status};

fn advisory(id: &str, modified: &str, package: &str) -> Advisory {
    Advisory {
        id: id.into(),
        kind: Kind::Osv,
        aliases: Vec::new(),
        about: vec![id.into()],
        summary: String::new(),
        scores: Vec::new(),
        severity: None,
        published: None,
        modified: Some(modified.into()),
        references: Vec::new(),
        affected: vec![Affected {
            release: Release::of_osv("npm").unwrap(),
            package: package.into(),
            ranges: vec![Range {
                events: vec![Event::Introduced("0".into()), Event::Fixed("2.0.0".into())],
            }],
            versions: Vec::new(),
            severity: None,
            note: None,
        }],
    }
}

#[test]
fn the_newer_of_two_records_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let mut builder = Builder::new(&path).unwrap();
    for (modified, package) in [
        ("2024-02-01T00:00:00Z", "second"),
        ("2024-01-01T00:00:00Z", "first"),
        ("2024-03-01T00:00:00Z", "third"),
    ] {
        builder.add(&advisory("A-1", modified, package)).unwrap();
    }
    builder.finish("2026-01-01T00:00:00Z", "test 1").unwrap();
    let database = Database::open(&path).unwrap();
    let npm = Release::of_osv("npm").unwrap();
    let number = database.release(&npm).unwrap().unwrap();
    let live = |package: &str| {
        let statements = database.statements((number, &npm), package).unwrap();
        statements
            .into_iter()
            .filter(|(advisory, affected)| {
                matches!(affected.status("1.0.0"), Status::Affected { .. })
                    && database.advisory(*advisory).unwrap().is_some()
            })
            .count()
    };
    assert_eq!((live("first"), live("second"), live("third")), (0, 0, 1));
    assert_eq!(database.created().unwrap(), "2026-01-01T00:00:00Z");
}

#[test]
fn an_unfinished_database_leaves_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    let mut builder = Builder::new(&path).unwrap();
    builder.add(&advisory("A-1", "", "a")).unwrap();
    builder.finish("2026-01-01T00:00:00Z", "test 1").unwrap();
    drop(Builder::new(&path).unwrap());
    let empty = Builder::new(&path).unwrap();
    assert!(matches!(
        empty.finish("2026-01-02T00:00:00Z", "test 1"),
        Err(DatabaseError::Empty)
    ));
    assert_eq!(
        Database::open(&path).unwrap().created().unwrap(),
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn other_files_are_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.sqlite");
    assert!(matches!(
        Database::open(&path),
        Err(DatabaseError::Missing(_))
    ));
    std::fs::write(&path, "hello").unwrap();
    assert!(matches!(
        Database::open(&path),
        Err(DatabaseError::Foreign(_))
    ));
    std::fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE a (b)").unwrap();
    assert!(matches!(
        Database::open(&path),
        Err(DatabaseError::Foreign(_))
    ));
    other
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = 99"
        ))
        .unwrap();
    assert!(matches!(
        Database::open(&path),
        Err(DatabaseError::Version { found: 99, .. })
    ));
}
