//! Measures the store with ten thousand images and a hundred thousand steps, and the start of the binary.
//!
//! `cargo run --release --example store-scale -- PATH-OF-OVENBIRD`. Prints the median of several runs of each; ends with 1 if
//! a list or show takes 50 ms or more, or the start 30 ms or more.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovenbird::store::{Home, ImageFilter, ImageState, Store};

const IMAGES: u32 = 10_000;
const STEPS_OF_EACH: u32 = 10;
const RUNS: usize = 9;
const QUERY: Duration = Duration::from_millis(50);
const START: Duration = Duration::from_millis(30);

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path =
        camino::Utf8Path::from_path(folder.path()).ok_or("the folder's name is not UTF-8")?;
    let home = Home::at(path)?;
    drop(Store::open(&home)?);
    fill(&home)?;
    let store = Arc::new(Store::open(&home)?);
    let mut slow = false;
    let mut report = |what: &str,
                      limit: Duration,
                      work: &mut dyn FnMut() -> Result<(), String>|
     -> Result<(), String> {
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let median = times[RUNS / 2];
        slow |= median >= limit;
        println!(
            "{what:<52} {:>8.2} ms  (limit {} ms)",
            median.as_secs_f64() * 1e3,
            limit.as_millis()
        );
        Ok(())
    };
    let text = |error: ovenbird::error::Failure| error.chain();
    report("open", QUERY, &mut || {
        Store::open(&home).map(drop).map_err(text)
    })?;
    report("list all images", QUERY, &mut || {
        let images = store.list_images().map_err(text)?;
        (images.len() == IMAGES as usize)
            .then_some(())
            .ok_or_else(|| "images are missing".to_owned())
    })?;
    report("list failed images of one name", QUERY, &mut || {
        let filter = ImageFilter {
            name: Some("image-7".into()),
            states: vec![ImageState::Failed],
            ..ImageFilter::default()
        };
        store.images(&filter).map(drop).map_err(text)
    })?;
    report("list by tag", QUERY, &mut || {
        let filter = ImageFilter {
            tags: vec![("number".into(), Some("77".into()))],
            ..ImageFilter::default()
        };
        store.images(&filter).map(drop).map_err(text)
    })?;
    report("find by name and version", QUERY, &mut || {
        store.find_image("image-7/1.x.x").map(drop).map_err(text)
    })?;
    report("find by run", QUERY, &mut || {
        store.find_image("run-7777").map(drop).map_err(text)
    })?;
    report("show: image, inputs, history, steps", QUERY, &mut || {
        let image = store.find_image("image-7").map_err(text)?;
        store.inputs_of(&image).map_err(text)?;
        store.history_of(&image).map_err(text)?;
        let steps = store.steps_of(&image).map_err(text)?;
        (steps.len() == STEPS_OF_EACH as usize)
            .then_some(())
            .ok_or_else(|| "steps are missing".to_owned())
    })?;
    report("dead builds", QUERY, &mut || {
        store.fail_dead_builds().map(drop).map_err(text)
    })?;
    if let Some(program) = std::env::args().nth(1) {
        let mut run = |what: &str, limit, arguments: &[&str]| {
            report(what, limit, &mut || {
                let status = Command::new(&program)
                    .args(arguments)
                    .env("OVENBIRD_HOME", home.path())
                    .stdout(Stdio::null())
                    .status()
                    .map_err(|error| format!("{program}: {error}"))?;
                status
                    .success()
                    .then_some(())
                    .ok_or_else(|| format!("{program}: {status}"))
            })
        };
        run("start: ovenbird --version", START, &["--version"])?;
        run("start: ovenbird list recipes", START, &["list", "recipes"])?;
        run(
            "whole process: image list --limit 50",
            QUERY,
            &["image", "list", "--limit", "50"],
        )?;
        run("whole process: image list (all)", QUERY, &["image", "list"])?;
        run(
            "whole process: image show",
            QUERY,
            &["image", "show", "image-9"],
        )?;
    }
    Ok(if slow {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Fills the store by SQL: what is measured is reading.
fn fill(home: &Home) -> rusqlite::Result<()> {
    let mut connection = rusqlite::Connection::open(home.path().join("store.db"))?;
    let transaction = connection.transaction()?;
    for number in 1..=IMAGES {
        let (name, build) = (format!("image-{}", number % 100), number / 100 + 1);
        let state = if number % 3 == 0 {
            "CANCELLED"
        } else {
            "FAILED"
        };
        transaction
            .prepare_cached(
                "INSERT INTO image (id, name, slug, major, minor, patch, build, arn, run, state, reason, parent, recipe, folder, \
                 logs, owner_pid, owner_start, created, updated) VALUES (?1, ?2, ?2, 1, 0, 0, ?3, ?4, ?5, ?6, NULL, \
                 'debian-12/12.5.0', '{}', '/f', '/l', 1, 1, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')",
            )?
            .execute((number, &name, build, format!("arn-{number}"), format!("run-{number}"), state))?;
        for position in 0..6 {
            transaction
                .prepare_cached("INSERT INTO image_input VALUES (?1, ?2, 'component', 'c', '1.0.0', NULL, NULL, 'd', '{}')")?
                .execute((number, position))?;
        }
        for key in ["number", "team"] {
            transaction
                .prepare_cached("INSERT INTO image_tag VALUES (?1, ?2, ?3)")?
                .execute((number, key, number.to_string()))?;
        }
        for _ in 0..5 {
            transaction
                .prepare_cached(
                    "INSERT INTO image_history VALUES (?1, ?2, NULL, '2026-01-01T00:00:00Z')",
                )?
                .execute((number, state))?;
        }
        for _ in 0..STEPS_OF_EACH {
            transaction
                .prepare_cached("INSERT INTO step VALUES (?1, 'ApplyBuildComponents', 'completed', 1.5, 'done', '2026-01-01T00:00:00Z')")?
                .execute([number])?;
        }
    }
    transaction.commit()
}
