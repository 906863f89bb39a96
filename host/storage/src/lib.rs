//! The border to the disk. Everything that has to survive a crash is written through [`Storage`] and [`StorageFile`]: by
//! [`RealStorage`] to files, by the test kit's twin to memory, where each operation can be torn, lost and refused. So a whole life of
//! the daemon can run on one storage, fail anywhere, and be looked at afterwards.
//!
//! What is best effort (rejected lines, the cache of compiled plugins, sockets, configuration) does not pass here. This crate must not
//! know what is in a file.

mod aligned;
mod direct;
mod real;
mod storage;
mod stream;

pub use aligned::AlignedBuffer;
pub use real::{RealFile, RealStorage};
pub use storage::{Storage, StorageFile};
pub use stream::Stream;
