//! End to end: the release binary, real components, real sockets, files and processes.

mod authors;
mod bench;
mod cost;
mod counts;
mod crash;
mod doors;
mod first_party;
mod folder;
mod lines;
mod reload;
mod shadow;
mod shards;
mod soak;
mod verify;
mod watching;
mod wikipedia;
