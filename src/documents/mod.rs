//! Resource documents: the service's own shapes.

pub mod recipe;

pub use recipe::ImageRecipe;
