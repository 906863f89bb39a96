//! The sandbox with real guests in it: what is taken and refused, what crosses, and that every limit bites.

mod accumulating;
mod caching;
mod contract;
mod fixture;
mod hostile;
mod languages;
mod loading;
mod sharding;
mod signups;
