//! `ovenbird image list|show|packages`

use std::process::ExitCode;

use serde_json::json;

use crate::cli::Session;
use crate::error::Result;
use crate::output::Manifest;
use crate::store::{ImageFilter, Store};
use crate::words::human_bytes;

/// `image list`
pub fn list(store: &Store, session: &Session, filter: &ImageFilter) -> Result<ExitCode> {
    let images = store.images(filter)?;
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
            if image.state.is_finished() {
                image.folder.to_string()
            } else {
                String::new()
            },
        ]
    }));
    session.printer.table(&rows);
    Ok(ExitCode::SUCCESS)
}

/// `image show`
pub fn show(store: &Store, session: &Session, wanted: &str) -> Result<ExitCode> {
    let image = store.find_image(wanted)?;
    let steps = store.steps_of(&image)?;
    let inputs = store.inputs_of(&image)?;
    let history = store.history_of(&image)?;
    let manifest = match image.state.is_finished() {
        true => Some(Manifest::read(&image.folder)?),
        false => None,
    };
    let printer = &session.printer;
    printer.value(&json!({
        "image": image, "inputs": inputs, "history": history, "steps": steps, "manifest": manifest,
    }));
    printer.line(format!("{}  {}", image.id(), image.state));
    if let Some(reason) = &image.reason {
        printer.line(format!("reason:   {reason}"));
    }
    printer.line(format!("arn:      {}", image.arn));
    printer.line(format!("parent:   {}", image.parent));
    printer.line(format!("created:  {}", image.created));
    printer.line(format!("logs:     {}", image.logs));
    for (key, value) in &image.tags {
        printer.line(format!("tag       {key}={value}"));
    }
    for input in &inputs {
        let digest: String = input
            .digest
            .as_deref()
            .unwrap_or("")
            .chars()
            .take(16)
            .collect();
        let place = input.arn.as_ref().or(input.source.as_ref());
        printer.line(
            format!(
                "{:9} {}  {digest}  {}",
                input.role.as_str(),
                input.label(),
                place.map_or("", String::as_str)
            )
            .trim_end(),
        );
    }
    if let Some(manifest) = &manifest {
        printer.line(format!(
            "os:       {}, {} packages",
            manifest.os.pretty_name,
            manifest.packages.len()
        ));
        printer.line(format!("folder:   {}", image.folder));
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

/// `image packages`
pub fn packages(store: &Store, session: &Session, wanted: &str) -> Result<ExitCode> {
    let image = store.find_image(wanted)?;
    let manifest = super::manifest_of(&image)?;
    let printer = &session.printer;
    printer.value(&manifest.packages);
    if manifest.packages.is_empty() {
        printer.line(format!(
            "no packages are on record for {}: none were found, or its pipeline says `enhancedImageMetadataEnabled: false`",
            image.id()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        ["PACKAGE", "VERSION", "ARCHITECTURE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(manifest.packages.iter().map(|package| {
        vec![
            package.name.clone(),
            package.version.clone(),
            package.architecture.clone(),
        ]
    }));
    printer.table(&rows);
    Ok(ExitCode::SUCCESS)
}
