//! Layers: what a bake has done once and need not do again.
//!
//! A layer is a qcow2 overlay that was frozen after a component's build phase, with the inputs that made it. Its key is
//! the digest of these inputs and of the layer beneath, so equal keys mean equal work. Beside the disk may lie the
//! memory of the guest at that moment, from which a later bake resumes instead of booting.

mod key;
mod shelf;

pub use key::{Inputs, LayerId, LayerKey};
pub use shelf::{Collected, Draft, Layer, Lookup, Memory, MemoryFit, Record, Shelf, backing_name};
