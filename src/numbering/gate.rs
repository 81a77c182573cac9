//! What stands against new claims beside the books: the clock, the disk, the device's queue.

use crate::{model::DeviceNo, refusal::Refusal};

/// Whether new claims may be made, for reasons outside the books.
pub struct Gate<'a> {
    /// For every device: the clock, the disk.
    pub all: Result<(), Refusal>,
    /// For one device: whether it takes jobs, and the clock of its authority.
    pub device: &'a dyn Fn(DeviceNo) -> Result<(), Refusal>,
}

impl From<Result<(), Refusal>> for Gate<'_> {
    fn from(all: Result<(), Refusal>) -> Self {
        Self { all, device: &|_| Ok(()) }
    }
}
