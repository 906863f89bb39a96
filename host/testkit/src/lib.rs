//! Twins for tests: storage that tears, loses and refuses. Nothing here is part of the program.

mod disk;
mod mem;
mod operation;

pub use disk::{Fault, Reached};
pub use mem::{MemFile, MemLock, MemStorage};
pub use operation::{Kind, Operation};
