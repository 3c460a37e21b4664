//! `ovenbird image list|show|rm`

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::Session;
use crate::bake::engine::human_bytes;
use crate::bake::run_folder;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;
use crate::store::{ImageRecord, ImageState, Store};

/// Arguments of `image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List images, newest first
    List {
        /// Only those in this state, such as AVAILABLE or FAILED
        #[arg(long, value_name = "STATE")]
        state: Option<ImageState>,
    },
    /// Show what an image is, what it was made from, and how its build went
    Show {
        /// NAME, NAME/VERSION, NAME/VERSION/BUILD, an ARN or a run's id
        image: String,
    },
    /// Remove an image: its files, its logs, its record, and a guest that was kept
    Rm {
        /// NAME/VERSION/BUILD, an ARN or a run's id
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such image.
pub fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    store.fail_dead_builds()?;
    match args.verb {
        Verb::List { state } => list(&store, session, state),
        Verb::Show { image } => show(&store, session, &image),
        Verb::Rm { images } => {
            // Nothing is removed if one of them doesn't exist.
            let records = images
                .iter()
                .map(|image| exact(&store, image))
                .collect::<Result<Vec<_>>>()?;
            records
                .iter()
                .try_for_each(|record| remove(&store, session, record))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(store: &Store, session: &Session, state: Option<ImageState>) -> Result<ExitCode> {
    let mut images = store.list_images()?;
    images.retain(|image| state.is_none_or(|state| image.state == state));
    session.printer.value(&images);
    if images.is_empty() {
        session.printer.line("no images");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        ["IMAGE", "STATE", "PARENT", "CREATED", "FOLDER"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(images.iter().map(|image| {
        vec![
            image.id(),
            image.state.to_string(),
            image.parent.clone(),
            image.created.clone(),
            if image.state == ImageState::Available {
                image.folder.to_string()
            } else {
                String::new()
            },
        ]
    }));
    session.printer.table(&rows);
    Ok(ExitCode::SUCCESS)
}

fn show(store: &Store, session: &Session, wanted: &str) -> Result<ExitCode> {
    let image = store.find_image(wanted)?;
    let steps = store.steps_of(&image)?;
    let manifest = match image.state {
        ImageState::Available => Some(Manifest::read(&image.folder)?),
        _ => None,
    };
    let printer = &session.printer;
    printer.value(&json!({ "image": image, "steps": steps, "manifest": manifest }));
    printer.line(format!("{}  {}", image.id(), image.state));
    if let Some(reason) = &image.reason {
        printer.line(format!("reason:   {reason}"));
    }
    printer.line(format!("arn:      {}", image.arn));
    printer.line(format!("parent:   {}", image.parent));
    printer.line(format!("created:  {}", image.created));
    printer.line(format!("logs:     {}", image.logs));
    if let Some(manifest) = &manifest {
        printer.line(format!(
            "os:       {}, {} packages",
            manifest.os.pretty_name,
            manifest.packages.len()
        ));
        printer.line(format!("folder:   {}", image.folder));
        for component in &manifest.components {
            let version = component.version.as_deref().unwrap_or("");
            printer.line(format!(
                "component {} {version} {}",
                component.name,
                &component.sha256[..component.sha256.len().min(16)]
            ));
        }
        for boot in &manifest.boots {
            printer.line(format!(
                "boot      {} by {} on {} under {}: {:.1} s",
                boot.purpose, boot.firmware, boot.disk, boot.accelerator, boot.seconds
            ));
        }
        printer.line("");
        let mut rows = vec![["FILE", "SIZE", "SHA-256"].map(str::to_owned).to_vec()];
        rows.extend(manifest.files.iter().map(|file| {
            vec![
                file.path.to_string(),
                human_bytes(file.size),
                file.sha256.clone(),
            ]
        }));
        printer.table(&rows);
    }
    if !steps.is_empty() {
        printer.line("");
        let mut rows = vec![
            ["STEP", "OUTCOME", "SECONDS", "DETAIL"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(steps.iter().map(|step| {
            vec![
                step.name.clone(),
                step.outcome.clone(),
                format!("{:.1}", step.seconds),
                step.detail.clone(),
            ]
        }));
        printer.table(&rows);
    }
    Ok(ExitCode::SUCCESS)
}

/// For removal an image must be named in full: the newest build of a name is not what somebody expects to lose.
fn exact(store: &Store, wanted: &str) -> Result<ImageRecord> {
    let image = store.find_image(wanted)?;
    if wanted == image.run
        || wanted == image.arn
        || wanted.ends_with(&format!("/{}/{}", image.version, image.build))
    {
        return Ok(image);
    }
    Err(Failure::new(
        FailureKind::Usage,
        format!("`{wanted}` does not name one build"),
    )
    .with_hint(format!("the newest is {}", image.id())))
}

fn remove(store: &Store, session: &Session, image: &ImageRecord) -> Result<()> {
    if image.state.is_running() {
        return Err(Failure::config(format!("{} is being built", image.id()))
            .with_hint("cancel its build first"));
    }
    for (folder, record) in run_folder::list(&session.home.runs()) {
        if record.run == image.run {
            run_folder::release(&folder, &record)?;
        }
    }
    for folder in [&image.folder, &image.logs] {
        // Only a folder that is ours: one that holds this image's manifest, or our logs.
        let ours = folder == &image.logs
            || Manifest::read(folder).is_ok_and(|manifest| manifest.run == image.run);
        if ours && folder.exists() {
            std::fs::remove_dir_all(folder).or_failure(FailureKind::Environment, || {
                format!("cannot remove {folder}")
            })?;
        }
    }
    store.forget_image(image)?;
    session.printer.line(format!("removed {}", image.id()));
    Ok(())
}
