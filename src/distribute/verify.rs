//! Reading snapshots back: that what is registered is what was tested.

use aws_config::SdkConfig;
use camino::Utf8Path;
use serde::Serialize;

use super::{Journal, Source};
use crate::aws::ebs::{self, BLOCK, Ebs};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

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
    let disk = source.disk()?;
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
    let stored = ebs::stored_blocks(&*disk).or_failure(FailureKind::Output, unreadable)?;
    // Blocks of the disk that the snapshot lacks must be zeros.
    for index in stored
        .into_iter()
        .filter(|index| !there.contains_key(index))
    {
        if ebs::read_block(&*disk, index)
            .or_failure(FailureKind::Output, unreadable)?
            .is_some()
        {
            return Err(differs(index));
        }
    }
    let end = disk.virtual_size().div_ceil(BLOCK);
    for (index, token) in &there {
        let (body, digest) = ebs.get(&snapshot, *index, token).await?;
        let ours = if *index < end {
            ebs::read_block(&*disk, *index).or_failure(FailureKind::Output, unreadable)?
        } else {
            None
        };
        let same = match ours {
            Some((_, ours)) => ours == digest,
            None => body.iter().all(|byte| *byte == 0),
        };
        if !same {
            return Err(differs(*index));
        }
    }
    Ok(Verified {
        region: region.to_owned(),
        snapshot,
        blocks: there.len(),
    })
}
