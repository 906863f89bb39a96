//! Real clients against the real daemon: what they see, and what the daemon says of what they sent.

mod arrow;
mod cloudevents;
mod curl;
mod openapi;
mod prometheus;
mod quickstart;
mod segment;
mod stdlib;
