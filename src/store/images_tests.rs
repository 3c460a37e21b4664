//! Tests of the record of images.

use super::*;
use crate::store::Home;

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(camino::Utf8Path::from_path(folder.path()).unwrap()).unwrap();
    let store = Arc::new(Store::open(&home).unwrap());
    (folder, store)
}

fn image(name: &str, version: &str) -> NewImage {
    NewImage {
        name: name.into(),
        version: version.into(),
        parent: "debian-12/1.0.0".into(),
        recipe: "{}".into(),
        ..NewImage::default()
    }
}

#[test]
fn build_numbers_count_per_version_and_names_collide_when_normalised() {
    let (_folder, store) = store();
    assert_eq!(
        store
            .begin_image(&image("Web Server", "1.0.0"))
            .unwrap()
            .build,
        1
    );
    assert_eq!(
        store
            .begin_image(&image("web-server", "1.0.0"))
            .unwrap()
            .build,
        2
    );
    assert_eq!(
        store
            .begin_image(&image("web-server", "1.10.0"))
            .unwrap()
            .build,
        1
    );
    assert_eq!(
        store
            .begin_image(&image("web-server", "1.9.0"))
            .unwrap()
            .build,
        1
    );
    assert_eq!(
        store.find_image("web-server").unwrap().id(),
        "web-server/1.10.0/1"
    );
    assert_eq!(store.find_image("web-server/1.0.0").unwrap().build, 2);
    assert_eq!(store.find_image("Web Server/1.0.0/1").unwrap().build, 1);
    let arn = store.find_image("web-server/1.9.0/1").unwrap().arn;
    assert_eq!(store.find_image(&arn).unwrap().version, "1.9.0");
    assert!(store.find_image("web-server/2.0.0").is_err());
    assert!(store.begin_image(&image("x", "1.0")).is_err());
}

#[test]
fn an_ended_image_stays_ended() {
    let (_folder, store) = store();
    let image = store.begin_image(&image("web", "1.0.0")).unwrap();
    store.set_state(&image, ImageState::Building, None).unwrap();
    store
        .set_state(&image, ImageState::Failed, Some("why"))
        .unwrap();
    assert!(
        store
            .set_state(&image, ImageState::Available, None)
            .is_err()
    );
    let image = store.find_image("web").unwrap();
    assert_eq!(
        (image.state, image.reason.as_deref()),
        (ImageState::Failed, Some("why"))
    );
}

#[test]
fn builds_of_dead_processes_are_marked() {
    let (_folder, store) = store();
    let mine = store.begin_image(&image("mine", "1.0.0")).unwrap();
    let dead = store.begin_image(&image("dead", "1.0.0")).unwrap();
    store
        .write(|transaction| {
            transaction.execute("UPDATE image SET owner_start = 1 WHERE id = ?1", [dead.id])
        })
        .unwrap();
    let marked: Vec<_> = store
        .fail_dead_builds()
        .unwrap()
        .iter()
        .map(ImageRecord::id)
        .collect();
    assert_eq!(marked, ["dead/1.0.0/1"]);
    assert!(store.find_image("mine").unwrap().state.is_running());
    assert_eq!(mine.state, ImageState::Pending);
}

#[test]
fn two_writers_never_get_the_same_number() {
    let (_folder, store) = store();
    let home = store.home.clone();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let home = home.clone();
            std::thread::spawn(move || {
                let store = Arc::new(Store::open(&home).unwrap());
                (0..25)
                    .map(|_| store.begin_image(&image("web", "1.0.0")).unwrap().build)
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut builds: Vec<u32> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    builds.sort_unstable();
    assert_eq!(builds, (1..=100).collect::<Vec<_>>());
}

#[test]
fn logs_lie_as_the_service_names_its_streams() {
    let (_folder, store) = store();
    let image = store.begin_image(&image("Web Server", "1.2.3")).unwrap();
    // Group /aws/imagebuilder/web-server, stream 1.2.3/1.
    assert_eq!(image.logs, store.home().logs().join("web-server/1.2.3/1"));
}

#[test]
fn a_number_of_a_removed_image_is_not_given_again() {
    let (_folder, store) = store();
    let first = store.begin_image(&image("web", "1.0.0")).unwrap();
    store.forget_image(&first).unwrap();
    assert_eq!(store.begin_image(&image("web", "1.0.0")).unwrap().build, 2);
}

#[test]
fn builds_at_a_time_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(camino::Utf8Path::from_path(folder.path()).unwrap()).unwrap();
    std::fs::write(
        home.path().join("config.toml"),
        "[quotas]\nconcurrentBuilds = 1\n",
    )
    .unwrap();
    let store = Arc::new(Store::open(&home).unwrap());
    let first = store.begin_image(&image("web", "1.0.0")).unwrap();
    let failure = store.begin_image(&image("web", "1.0.0")).unwrap_err();
    assert_eq!(failure.to_string(), "1 builds are running, at most 1 may");
    store
        .set_state(&first, ImageState::Available, None)
        .unwrap();
    assert_eq!(store.begin_image(&image("web", "1.0.0")).unwrap().build, 2);
}
