//! State: the home with its folders, and a database with the record of resources and of every build.

mod apply;
mod home;
mod images;
mod inputs;
mod lifecycle;
mod pipelines;
mod quotas;
mod resources;
mod schema;
mod settings;
mod state;
mod tags;

pub use apply::{LatestVersionReferences, Outcome, Put};
pub use home::{Home, PACKAGES};
pub use images::{ImageFilter, ImageLedger, ImageRecord, NewImage, StateChange, StepRecord};
pub use inputs::{ImageInput, InputRole};
pub use lifecycle::{LifecycleExecution, LifecycleResult};
pub use pipelines::{Claim, PipelineRun, PipelineState, RunOutcome, StartedBy};
pub use resources::{Referrer, ResourceFilter, ResourceRecord, reference_of};
pub use schema::Store;
pub use settings::Settings;
pub use state::ImageState;
pub use tags::Tagged;

/// The time as records keep it.
fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
