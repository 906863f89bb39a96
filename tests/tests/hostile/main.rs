//! Hostile input of every kind by every door, in small: what `cargo xtask hostile` sends in full.

use std::process::Command;

use tally_tests::{plugin, root, tally, text};

#[test]
fn hostile_input_is_named_and_counted_and_harms_nobody() {
    let plugins = plugin("video-actions").parent().expect("a folder").to_owned();
    let mut hostile = Command::new("python3");
    hostile.arg("-B").arg(root().join("tests/hostile/hostile.py")).arg("--tally").arg(tally().get_program());
    let output = hostile.arg("--plugins").arg(plugins).arg("--quick").output().expect("python3 starts");
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    assert!(printed.trim_end().ends_with("violations: 0"), "{printed}");
}
