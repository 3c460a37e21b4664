//! What an earlier build of the same image left in a region: only blocks that differ from it need to be sent.

use std::time::SystemTime;

use camino::Utf8Path;

use super::{Journal, Source, record};
use crate::aws::ebs::BlockMap;
use crate::aws::ec2::Ec2;
use crate::aws::xml;
use crate::error::Result;

/// Snapshots stand on each other at most so deep here; a journal that names itself must not be followed for ever.
const DEEPEST: usize = 64;

/// The newest complete snapshot of another build of this image in a region, and all blocks that it holds. It must still be
/// there, and must not be larger than the new volume, as the service demands.
pub(super) async fn parent(
    source: &Source,
    journals: &Utf8Path,
    region: &str,
    gib: u64,
    ec2: &Ec2,
) -> Result<Option<(String, BlockMap)>> {
    let mut candidates: Vec<(SystemTime, String)> = Vec::new();
    for run in runs(journals) {
        let same = record::read(journals, &run)
            .is_ok_and(|record| record.image.split('/').next() == source.image().split('/').next());
        let path = journals.join(&run).join(format!("{region}.jsonl"));
        let Ok(modified) = path.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        if same
            && run != source.manifest.run
            && let Ok(journal) = Journal::read(journals, &run, region)
            && let (Some(snapshot), true) = (journal.snapshot, journal.completed && journal.mapped)
        {
            candidates.push((modified, snapshot));
        }
    }
    candidates.sort();
    for (_, snapshot) in candidates.into_iter().rev() {
        let answer = match ec2
            .call(
                "DescribeSnapshots",
                &vec![("SnapshotId.1".to_owned(), snapshot.clone())],
            )
            .await
        {
            Ok(answer) => answer,
            Err(error) if error.code().ends_with(".NotFound") => continue,
            Err(error) => return Err(error.into_failure(&format!("ask for {snapshot}"))),
        };
        let first = |name| xml::texts(&answer, name).into_iter().next();
        let fits = first("status").as_deref() == Some("completed")
            && first("volumeSize").and_then(|size| size.parse::<u64>().ok()) <= Some(gib)
            && first("encrypted").as_deref() != Some("true");
        if fits && let Some(content) = content(journals, region, &snapshot) {
            return Ok(Some((snapshot, content)));
        }
    }
    Ok(None)
}

/// All blocks of a snapshot that we made: its own above those of its parents; none if a journal of them is gone.
pub(super) fn content(journals: &Utf8Path, region: &str, snapshot: &str) -> Option<BlockMap> {
    let mut chain = Vec::new();
    let mut wanted = Some(snapshot.to_owned());
    while let Some(snapshot) = wanted {
        if chain.len() == DEEPEST {
            return None;
        }
        let journal = runs(journals)
            .into_iter()
            .filter(|run| journals.join(run).join(format!("{region}.jsonl")).is_file())
            .filter_map(|run| Journal::read(journals, &run, region).ok())
            .find(|journal| {
                journal.completed && journal.mapped && journal.snapshot.as_ref() == Some(&snapshot)
            })?;
        chain.push(journal.blocks);
        wanted = journal.parent;
    }
    let mut content = BlockMap::new();
    for blocks in chain.into_iter().rev() {
        content.extend(blocks);
    }
    Some(content)
}

fn runs(journals: &Utf8Path) -> Vec<String> {
    let entries = journals.read_dir_utf8().into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_owned()).collect()
}
