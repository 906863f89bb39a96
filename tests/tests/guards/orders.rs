//! Orders are taken on the admin socket alone.

use tally_tests::wire::{self, request};
use tally_tests::{Work, plugin};

#[test]
fn only_the_admin_socket_takes_orders() {
    let work = Work::new(&[plugin("video-actions")]);
    let daemon = work.start("--query-listen 127.0.0.1:0");
    let admin = work.path("t.sock.admin");
    let ask = |door: &str, method: &str| {
        let stream = match door {
            "query_tcp" => wire::tcp(daemon.address(door)),
            _ => wire::unix(daemon.address(door).as_ref()),
        };
        request(stream, &format!("{method} /v1/plugins/reload"), &[], "")
    };
    for door in ["query", "query_tcp"] {
        let refused = ask(door, "POST");
        assert_eq!((refused.status, refused.code().as_str()), (403, "admin_only"), "{door}");
        assert!(refused.body.contains(&admin.display().to_string()), "{refused:?}");
    }
    for door in ["query", "query_tcp", "admin"] {
        let refused = ask(door, "GET");
        assert_eq!((refused.status, refused.code().as_str()), (405, "wrong_method"), "{door}");
        assert_eq!(refused.header("allow"), "POST");
    }
    let done = ask("admin", "POST");
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.json()["plugins"][0]["state"], "running");
    daemon.stop();
}
