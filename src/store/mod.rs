//! State: the home with its folders, and a database with the record of every build.

mod home;
mod images;
mod schema;

pub use home::Home;
pub use images::{ImageLedger, ImageRecord, ImageState, NewImage, StepRecord};
pub use schema::Store;
