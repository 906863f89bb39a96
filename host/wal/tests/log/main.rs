//! The log as its users see it, on storage that loses, tears and refuses, and on real files.

mod basics;
mod crash;
mod damage;
mod durability;
mod faults;
mod golden;
mod inspect;
mod real;
mod repair;
mod script;
