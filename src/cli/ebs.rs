//! `ovenbird ebs verify IMAGE`

use std::process::ExitCode;

use clap::Subcommand;

use super::Session;
use super::distribute::source;
use crate::distribute;
use crate::error::Result;

/// Arguments of `ebs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read an image's snapshot back and compare every block with the image's disk
    Verify {
        /// NAME[/VERSION[/BUILD]], an ARN, or a folder with a finished image
        image: String,
        /// The region that the disk was sent to
        #[arg(long)]
        region: String,
    },
}

/// Runs the verb.
///
/// # Errors
/// [`crate::error::FailureKind::Output`] if the snapshot is not as the disk.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let Verb::Verify { image, region } = args.verb;
    let source = source(&image, session)?;
    let aws = crate::aws::load().await;
    let verified =
        distribute::verify(&source, &session.home.distributions(), &region, &aws).await?;
    session.printer.value(&verified);
    session.printer.line(format!(
        "{} in {region} is as the disk of {}: {} blocks read back",
        verified.snapshot,
        source.image(),
        verified.blocks
    ));
    Ok(ExitCode::SUCCESS)
}
