//! Layers: what a bake has done once and need not do again.
//!
//! A layer is a qcow2 overlay that was frozen after a component's build phase, with the inputs that made it. Its key is
//! the digest of these inputs and of the layer beneath, so equal keys mean equal work. Beside the disk may lie the
//! memory of the guest at that moment, from which a later bake resumes instead of booting.

mod collect;
mod flatten;
mod key;
mod layer;
mod record;
mod shelf;

pub use collect::Collected;
pub use flatten::LONGEST_CHAIN;
pub use key::{Inputs, LayerId, LayerKey};
pub use layer::{Draft, Layer, backing_name, host_start};
pub use record::{Memory, MemoryFit, Record};
pub use shelf::{Lookup, Shelf};
