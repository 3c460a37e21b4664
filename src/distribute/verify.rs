//! Reading snapshots back: that what is registered is what was tested.

use aws_config::SdkConfig;
use camino::Utf8Path;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::{Journal, Source};
use crate::aws::ebs::{self, BlockReader, Ebs};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Blocks that are read back at a time: each takes tens of milliseconds, most of it on the way.
const GETS: usize = 32;

/// What a comparison of a snapshot with the disk saw.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The region.
    pub region: String,
    /// The snapshot.
    pub snapshot: String,
    /// Blocks that were read back.
    pub blocks: usize,
}

/// Reads the snapshot of a run back from a region and compares every block with the disk.
///
/// # Errors
/// [`FailureKind::Output`] for the first block that is not as on the disk; what the service says.
pub async fn verify(
    source: &Source,
    journals: &Utf8Path,
    region: &str,
    aws: &SdkConfig,
) -> Result<Verified> {
    let journal = Journal::read(journals, &source.manifest.run, region)?;
    let snapshot = journal.snapshot.ok_or_else(|| {
        Failure::config(format!("{} has no snapshot in {region}", source.image()))
            .with_hint("`ovenbird distribute` makes one in the first region of its configuration")
    })?;
    let ebs = Ebs::new(aws, region)?;
    let disk = BlockReader::new(source.disk()?);
    let there = ebs.list(&snapshot).await?;
    let differs = |index: u64| {
        Failure::new(
            FailureKind::Output,
            format!(
                "block {index} of {snapshot} is not as on the disk of {}",
                source.image()
            ),
        )
    };
    let unreadable = || "cannot read the disk".to_owned();
    let stored = ebs::stored_blocks(disk.disk()).or_failure(FailureKind::Output, unreadable)?;
    // Blocks of the disk that the snapshot lacks must be zeros.
    for index in stored
        .into_iter()
        .filter(|index| !there.contains_key(index))
    {
        let ours = disk.read(index);
        if ours.or_failure(FailureKind::Output, unreadable)?.is_some() {
            return Err(differs(index));
        }
    }
    let compare = async |(index, token): (&u64, &String)| -> Result<()> {
        let (body, digest) = ebs.get(&snapshot, *index, token).await?;
        let ours = disk.read(*index);
        let same = match ours.or_failure(FailureKind::Output, unreadable)? {
            Some((_, ours)) => ours == digest,
            None => body.iter().all(|byte| *byte == 0),
        };
        match same {
            true => Ok(()),
            false => Err(differs(*index)),
        }
    };
    stream::iter(&there)
        .map(compare)
        .buffer_unordered(GETS)
        .try_collect::<()>()
        .await?;
    Ok(Verified {
        region: region.to_owned(),
        snapshot,
        blocks: there.len(),
    })
}
