//! Twins for tests: storage that tears, loses and refuses. Nothing here is part of the program.

mod content;
mod disk;
mod fault;
mod inode;
mod mem;
mod names;
mod operation;
mod random;

pub use fault::{Fault, Reached};
pub use mem::{MemFile, MemLock, MemStorage};
pub use operation::{Kind, Operation};
pub use random::Random;
