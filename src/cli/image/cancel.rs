//! `ovenbird image cancel`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cli::Session;
use crate::error::{Failure, Result};
use crate::store::{ImageRecord, ImageState, Store};

/// Longer than a guest takes to be stopped and a staging folder to be removed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the record is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Asks the process that builds an image to stop, and waits until it has.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if the image is not being built; an environment failure if its process does not
/// stop.
pub async fn run(store: &Store, session: &Session, image: &ImageRecord) -> Result<ExitCode> {
    if !image.state.is_running() {
        return Err(Failure::config(format!(
            "{} is {}: there is nothing to cancel",
            image.id(),
            image.state
        )));
    }
    // The number alone could be another process's by now; the start time tells.
    image.owner().signal(Signal::SIGTERM);
    let started = Instant::now();
    loop {
        let now = store.find_image(&image.arn)?;
        if !now.state.is_running() {
            session.printer.value(&now);
            session.printer.line(format!("{}  {}", now.id(), now.state));
            return match now.state {
                ImageState::Cancelled => Ok(ExitCode::SUCCESS),
                state => Err(Failure::config(format!(
                    "{} had become {state} before it could be cancelled",
                    now.id()
                ))),
            };
        }
        if !image.owner().is_alive() {
            // It ended without a word: killed, or before it had set up its answer to signals.
            store.set_state(image, ImageState::Cancelled, Some("cancelled"))?;
            continue;
        }
        if started.elapsed() > PATIENCE {
            return Err(Failure::environment(format!(
                "the process {} that builds {} does not stop",
                image.owner().pid,
                image.id()
            ))
            .with_hint("kill it; the next `ovenbird` clears what it leaves"));
        }
        tokio::time::sleep(TICK).await;
    }
}
