//! The disk as a snapshot, block by block.

use super::site::Site;
use super::{Journal, delta};
use crate::aws::ebs::{self, BLOCK, BlockMap, Ebs};
use crate::aws::json::key_arn;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

impl Site<'_> {
    /// Puts the disk into a snapshot and waits for it; gives its id and the bytes that were sent.
    pub(super) async fn snapshot(&self, journal: &mut Journal) -> Result<(String, u64)> {
        let region = &self.plan.region;
        self.forget_if_gone(journal).await?;
        if let (Some(id), true) = (&journal.snapshot, journal.completed) {
            self.ec2.wait(id).await?;
            return Ok((id.clone(), 0));
        }
        let ebs = Ebs::new(&self.aws, region)?;
        let disk = self.source.disk()?;
        let gib = ebs::volume_gib(&*disk);
        let (id, base) = match &journal.snapshot {
            Some(id) => {
                let base = match &journal.parent {
                    None => BlockMap::new(),
                    Some(parent) => {
                        delta::content(self.journals, region, parent).ok_or_else(|| {
                            Failure::environment(format!(
                                "the journal of {parent}, on which {id} stands, is no longer there"
                            ))
                            .with_hint(format!("delete {id} in {region}, then run this again"))
                        })?
                    }
                };
                (id.clone(), base)
            }
            None => self.start(&ebs, gib, journal).await?,
        };
        let stored = ebs::stored_blocks(&*disk)
            .or_failure(FailureKind::Output, || "cannot read the disk".into())?;
        let count = |blocks: usize| u64::try_from(blocks).unwrap_or(0) * BLOCK;
        let total = count(stored.len()).saturating_sub(count(journal.blocks.len()));
        let mut sent = 0;
        let blocks = ebs
            .put_blocks(&id, disk, journal.blocks.clone(), base, |index, digest| {
                journal.put(index, digest)?;
                sent += BLOCK;
                self.watcher.sent(region, sent, total);
                Ok(())
            })
            .await?;
        ebs.complete(&id, &blocks).await?;
        journal.completed()?;
        self.watcher
            .note(region, &format!("{id} got {} blocks", blocks.len()));
        self.ec2.wait(&id).await?;
        Ok((id, sent))
    }

    /// A snapshot that expired, failed or was deleted is begun anew.
    pub(super) async fn forget_if_gone(&self, journal: &mut Journal) -> Result<()> {
        let Some(id) = journal.snapshot.clone() else {
            return Ok(());
        };
        let state = self.ec2.state(&id).await?;
        let age = jiff::Timestamp::now().as_second() - journal.started;
        let fresh = u64::try_from(age).is_ok_and(|age| age < ebs::UNKNOWN.as_secs());
        match state.as_deref() {
            Some("error" | "recoverable" | "recovering") => {}
            Some(_) => return Ok(()),
            // A part of the service may not know it yet.
            None if fresh && !journal.completed => return Ok(()),
            None => {}
        }
        self.watcher.note(
            &self.plan.region,
            &format!("{id} is no longer there: the disk is sent anew"),
        );
        journal.gone(&id)
    }

    /// Starts a snapshot, above that of an earlier build if there is one; gives its id and what it holds already.
    async fn start(
        &self,
        ebs: &Ebs,
        gib: u64,
        journal: &mut Journal,
    ) -> Result<(String, BlockMap)> {
        let region = &self.plan.region;
        let token = journal.starting()?;
        let mut start = self.plan.start(self.source, &token);
        let mut base = BlockMap::new();
        if let Some(key) = &start.kms_key {
            start.kms_key = Some(key_arn(&self.aws, region, key).await?);
        } else if let Some((parent, content)) =
            delta::parent(self.source, self.journals, region, gib, &self.ec2).await?
        {
            self.watcher
                .note(region, &format!("only what differs from {parent} is sent"));
            start.parent = Some(parent);
            base = content;
        }
        let id = ebs.start(gib, &start).await?;
        journal.started(&id, start.parent.as_deref())?;
        Ok((id, base))
    }
}
