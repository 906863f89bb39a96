//! A short run of the soak: every door, reloads and SIGHUPs at once, and the books balance.

use std::process::Command;

use tally_tests::{component, plugin, root, tally, text};

#[test]
fn some_seconds_of_everything_at_once_balance() {
    let plugins = plugin("video-actions").parent().expect("a folder").to_owned();
    let mut soak = Command::new("python3");
    soak.arg("-B").arg(root().join("tests/soak/soak.py")).arg("--tally").arg(tally().get_program());
    soak.arg("--plugins").arg(plugins);
    soak.arg("--other").arg(component("TALLY_FIXTURES_DIR", "fixtures", "video-actions-alt"));
    let output = soak.args(["--minutes", "0.25", "--rate", "20000"]).output().expect("python3 starts");
    assert!(output.status.success(), "{}", text(&output));
}
