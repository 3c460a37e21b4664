//! `ovenbird image list|show|report|sbom|vulnerabilities|diff|packages|cancel|retry|rm`

mod cancel;
mod diff;
mod report;
mod retry;
mod sbom;
mod show;
mod vulnerabilities;

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::Subcommand;

use super::Session;
use super::apply::key_and_perhaps_value;
use super::build::How;
use super::vuln;
use crate::bake::run_folder;
use crate::documents::recipe_component::parse_age;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;
use crate::output::deliver::aside;
use crate::sbom::Form;
use crate::store::{ImageFilter, ImageRecord, ImageState, Store};

/// Arguments of `image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List images, newest first
    List(ListArgs),
    /// Show what an image is, what it was made from, and how its build went
    Show {
        /// NAME, NAME/VERSION, NAME/VERSION/BUILD, an ARN or a run's id
        image: String,
    },
    /// List the packages of a finished image
    Packages {
        /// NAME, NAME/VERSION, NAME/VERSION/BUILD, an ARN or a run's id
        image: String,
    },
    /// Print the bill of materials of a finished image
    Sbom {
        /// NAME, NAME/VERSION, NAME/VERSION/BUILD, an ARN or a run's id
        image: String,
        /// Its form
        #[arg(long, value_enum, default_value_t)]
        format: Form,
    },
    /// Look up known vulnerabilities of what is installed in a finished image
    Vulnerabilities {
        /// NAME, NAME/VERSION, NAME/VERSION/BUILD, an ARN or a run's id
        image: String,
        #[command(flatten)]
        how: vuln::How,
    },
    /// Write a page about a finished image: build steps and times, boots, components, clean-up, packages, assessments
    Report {
        /// NAME, NAME/VERSION, NAME/VERSION/BUILD, an ARN or a run's id
        image: String,
        /// Where the page goes; beside the image's logs if nothing is said
        #[arg(long, short, value_name = "FILE")]
        output: Option<Utf8PathBuf>,
        /// Show it in the browser
        #[arg(long)]
        open: bool,
    },
    /// Compare two finished images: what they were made from, packages, size, files
    Diff {
        /// The older one
        old: String,
        /// The newer one
        new: String,
        /// Do not compare the files on the disks
        #[arg(long)]
        no_files: bool,
    },
    /// Stop a running build
    Cancel {
        /// NAME/VERSION/BUILD, an ARN or a run's id
        image: String,
    },
    /// Go on with an image that failed or was cancelled, from exactly the same inputs: from its tests if its outputs were
    /// made, else from the last component that succeeded
    Retry {
        /// NAME/VERSION/BUILD, an ARN or a run's id
        image: String,
        #[command(flatten)]
        how: How,
    },
    /// Remove an image: its files, its logs, its record, and a guest that was kept
    Rm {
        /// NAME/VERSION/BUILD, an ARN or a run's id
        #[arg(required = true)]
        images: Vec<String>,
        /// Remove as well what its distribution made in buckets and regions: objects, AMIs, snapshots
        #[arg(long)]
        remote: bool,
    },
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those in this state, such as AVAILABLE or FAILED (may be given several times)
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<ImageState>,
    /// Only those of this name
    #[arg(long)]
    name: Option<String>,
    /// Only those with this tag (may be given several times)
    #[arg(long = "tag", value_name = "KEY[=VALUE]", value_parser = key_and_perhaps_value)]
    tags: Vec<(String, Option<String>)>,
    /// Only those of this platform, architecture or operating system, such as Linux, aarch64 or debian
    #[arg(long)]
    platform: Option<String>,
    /// Only those that are at most this old, such as 36h, 7d or 2w
    #[arg(long, value_name = "AGE", value_parser = age)]
    newer_than: Option<std::time::Duration>,
    /// Only those that are older, such as 36h, 7d or 2w
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<std::time::Duration>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such image.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    store.fail_dead_builds()?;
    match args.verb {
        Verb::List(args) => show::list(&store, session, &filter(args)),
        Verb::Show { image } => show::show(&store, session, &image),
        Verb::Packages { image } => show::packages(&store, session, &image),
        Verb::Sbom { image, format } => sbom::run(&store, session, &image, format),
        Verb::Vulnerabilities { image, how } => vulnerabilities::run(&store, session, &image, &how),
        Verb::Report {
            image,
            output,
            open,
        } => report::run(&store, session, &image, output, open),
        Verb::Diff { old, new, no_files } => diff::run(&store, session, &old, &new, !no_files),
        Verb::Cancel { image } => cancel::run(&store, session, &exact(&store, &image)?).await,
        Verb::Retry { image, how } => {
            let image = exact(&store, &image)?;
            retry::run(store, session, &image, &how).await
        }
        Verb::Rm { images, remote } => {
            // Nothing is removed if one of them doesn't exist.
            let records = images
                .iter()
                .map(|image| exact(&store, image))
                .collect::<Result<Vec<_>>>()?;
            if remote {
                let aws = crate::aws::load().await;
                for image in &records {
                    remove_remote(session, image, &aws).await?;
                }
            }
            records
                .iter()
                .try_for_each(|record| remove(&store, session, record))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn filter(args: ListArgs) -> ImageFilter {
    let ago = |age: std::time::Duration| {
        jiff::Timestamp::now()
            .checked_sub(age)
            .unwrap_or(jiff::Timestamp::MIN)
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
    };
    ImageFilter {
        name: args.name,
        version: None,
        states: args.states,
        since: args.newer_than.map(ago),
        before: args.older_than.map(ago),
        tags: args.tags,
        platform: args.platform,
        limit: args.limit,
    }
}

/// `90s`, `36h`, `7d`, `2w`.
pub(super) fn age(text: &str) -> Result<std::time::Duration, String> {
    parse_age(text)
        .ok_or_else(|| "expected a number and s, m, h, d or w, such as 36h or 7d".to_owned())
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
            .with_hint(format!("`ovenbird image cancel {}` stops it", image.id())));
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
    // Outputs whose tests failed; the number in their name is this image's alone.
    let untested = aside(&image.folder);
    if Manifest::read(&untested).is_ok_and(|manifest| manifest.run == image.run) {
        std::fs::remove_dir_all(&untested).or_failure(FailureKind::Environment, || {
            format!("cannot remove {untested}")
        })?;
    }
    store.forget_image(image)?;
    session.printer.line(format!("removed {}", image.id()));
    Ok(())
}

/// Before the files and the record, so that it can be done again when it fails in the middle.
async fn remove_remote(
    session: &Session,
    image: &ImageRecord,
    aws: &aws_config::SdkConfig,
) -> Result<()> {
    let journals = session.home.distributions();
    for place in crate::distribute::record::remove(&journals, &image.run, aws).await? {
        session.printer.line(format!("removed {place}"));
    }
    Ok(())
}

/// The manifest of a finished image.
fn manifest_of(image: &ImageRecord) -> Result<Manifest> {
    if !image.state.is_finished() {
        return Err(Failure::config(format!(
            "{} is {}: it has no outputs",
            image.id(),
            image.state
        )));
    }
    Manifest::read(&image.folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_unit() {
        assert_eq!(age("36h").unwrap().as_secs(), 36 * 3600);
        assert_eq!(age("2w").unwrap().as_secs(), 14 * 86_400);
        for wrong in ["", "7", "d", "-1d", "1.5h", "7ü"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
