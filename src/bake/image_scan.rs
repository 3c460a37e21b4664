//! Known vulnerabilities of what a bake installed: looked up before anything is made of the disk.

use ovenbird_inventory::Inventory;

use super::recorder::Recorder;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::events::StepKind;
use crate::vulnerabilities::{self, Check, Scan};
use crate::words::count;

/// Says before anything is booted what a missing database means.
///
/// # Errors
/// [`FailureKind::Environment`] if the recipe's threshold needs one.
pub(super) fn expect_database(check: Option<&Check>, recorder: &Recorder) -> Result<()> {
    if let Some(check) = check
        && check.open()?.is_none()
    {
        recorder.events().warn(
            "known vulnerabilities are not looked up, there is no database: `ovenbird vuln update` makes one".to_owned(),
        );
    }
    Ok(())
}

/// Looks up known vulnerabilities, if somebody wants it.
///
/// # Errors
/// [`FailureKind::Vulnerable`] if some are above the recipe's threshold.
pub(super) async fn scan(
    check: Option<&Check>,
    inventory: &Inventory,
    recorder: &Recorder,
) -> Result<Option<Scan>> {
    let Some(check) = check else {
        return Ok(None);
    };
    let Some(database) = check.open()? else {
        return Ok(None);
    };
    let (inventory, policy) = (inventory.clone(), check.policy.clone());
    let detail = format!(
        "{} in the local database",
        count(inventory.packages.len(), "package")
    );
    let look_up = async {
        let scan = move || vulnerabilities::scan(&inventory, &database, &policy);
        let scan = tokio::task::spawn_blocking(scan)
            .await
            .or_failure(FailureKind::Internal, || "a worker thread failed".into())??;
        for remark in &scan.findings.remarks {
            recorder.events().warn(remark.clone());
        }
        scan.verdict(&check.policy)?;
        let detail = format!("known vulnerabilities: {}", scan.findings.counts());
        Ok((Some(scan), detail))
    };
    recorder
        .step(StepKind::CollectImageScanFindings, detail, look_up)
        .await
}
