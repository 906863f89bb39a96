//! What operators look at: a plugin file before it is put in place, what the daemon knows of it, `tally top`.

use tally_tests::{Work, component, plugin, succeed, tally, text};

#[test]
fn a_plugin_file_is_checked_as_the_daemon_would() {
    let file = plugin("video-actions");
    let checked = succeed(tally().args(["plugin", "check", "--output", "json"]).arg(&file));
    let checked: serde_json::Value = serde_json::from_str(&checked).expect("JSON");
    assert_eq!(checked["name"], "video-actions");
    assert_eq!(checked["size"], std::fs::metadata(&file).expect("the component").len());
    assert_eq!(checked["event_types"][0]["event_type"], "action");
    assert_eq!(checked["tables"][0]["table"], "summary");

    let work = Work::new(&[file]);
    let daemon = work.start("");
    let running = work.ask(&["plugin", "inspect", "video-actions"]);
    assert_eq!(running["running_digest"], checked["digest"], "the same bytes have the same digest in both");
    daemon.stop();

    let refused = tally()
        .args(["plugin", "check", "--settings", "{\"colour\":1}"])
        .arg(plugin("video-actions"))
        .output()
        .expect("plugin check");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("the plugin refused its settings"), "{}", text(&refused));
    let unfit = component("TALLY_FIXTURES_DIR", "fixtures", "selfcheck");
    let unfit = tally().args(["plugin", "check", "--settings", "{\"unfit\":true}"]).arg(unfit).output();
    assert_eq!(unfit.expect("plugin check").status.code(), Some(1));
}

#[test]
fn top_prints_one_frame_for_pipes() {
    let work = Work::new(&[plugin("video-actions")]);
    let daemon = work.start("");
    let events = work.generate("events", "--events 12345");
    succeed(work.send(&["--ack"]).arg(&events));
    let frame = succeed(tally().args(["top", "--once", "--to"]).arg(work.path("t.sock.query")));
    assert!(frame.contains("sequence 12,345") && frame.contains("video-actions"), "{frame}");
    assert!(!frame.contains('\x1b'), "colours in a pipe: {frame:?}");
    daemon.stop();
}
