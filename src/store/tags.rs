//! Tags of resources and images.

use rusqlite::params;

use super::Store;
use super::apply::set_tag;
use super::images::ImageRecord;
use super::resources::ResourceRecord;
use super::schema::Abort;
use crate::error::{Failure, Result};

/// Something that can have tags.
#[derive(Debug, Clone, Copy)]
pub enum Tagged<'a> {
    /// A resource.
    Resource(&'a ResourceRecord),
    /// An image.
    Image(&'a ImageRecord),
}

impl Tagged<'_> {
    const fn table(self) -> &'static str {
        match self {
            Self::Resource(_) => "resource",
            Self::Image(_) => "image",
        }
    }

    const fn row(self) -> i64 {
        match self {
            Self::Resource(record) => record.id,
            Self::Image(record) => record.id,
        }
    }
}

impl Store {
    /// Sets tags; those of the same key get the new value.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Config`] if there would be too many.
    pub fn add_tags(&self, target: Tagged<'_>, tags: &[(String, String)]) -> Result<()> {
        let quota = self.settings().quota("tagsPerResource");
        let (table, row) = (target.table(), target.row());
        self.transact(|transaction| {
            for (key, value) in tags {
                set_tag(transaction, table, row, key, value)?;
            }
            let count: u32 = transaction.query_row(
                &format!("SELECT count(*) FROM {table}_tag WHERE {table} = ?1"),
                [row],
                |row| row.get(0),
            )?;
            if u64::from(count) > quota {
                return Err(Abort::Refused(
                    Failure::config(format!(
                        "there would be {count} tags, at most {quota} are allowed"
                    ))
                    .with_hint(
                        "`tagsPerResource` under `[quotas]` in the home's config.toml changes the limit",
                    ),
                ));
            }
            Ok(())
        })
    }

    /// Removes tags by key.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Config`] if one of them is not there; then none is removed.
    pub fn remove_tags(&self, target: Tagged<'_>, keys: &[String]) -> Result<()> {
        let (table, row) = (target.table(), target.row());
        self.transact(|transaction| {
            for key in keys {
                let removed = transaction.execute(
                    &format!("DELETE FROM {table}_tag WHERE {table} = ?1 AND key = ?2"),
                    params![row, key],
                )?;
                if removed == 0 {
                    return Err(Abort::Refused(Failure::config(format!(
                        "there is no tag `{key}`"
                    ))));
                }
            }
            Ok(())
        })
    }
}
