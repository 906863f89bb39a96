//! Questions to a plugin that does not answer keep nobody waiting who asks another one.

use std::io::Write as _;

use tally_tests::wire;

use crate::traffic::{LIMITS, World};

#[test]
fn hundreds_who_ask_a_plugin_that_hangs_keep_nobody_else_waiting() {
    let limits = LIMITS.replace("fuel_base = 50000000", "fuel_base = 1000000000000000");
    let mut world = World::new(&limits, &[("hangs", "{ loop_in = \"apply\" }")]);
    world.send(10, None);
    // More than there are threads for what blocks.
    let waiting: Vec<_> = (0..700)
        .map(|_| {
            let mut stream = wire::unix(&world.work.path("t.sock.query"));
            let asked = "GET /v1/aggregators/hangs?min_sequence=1&wait=60s HTTP/1.1\r\nhost: tally\r\n\r\n";
            stream.write_all(asked.as_bytes()).expect("asking");
            stream
        })
        .collect();
    // These would have to wait for those.
    for _ in 0..5 {
        world.send(10, None);
        world.is_unharmed();
        assert_eq!(world.work.get("/v1/dead-letters").status, 200);
    }
    assert_eq!(world.work.status()["aggregators"]["hangs"]["ledger"]["applied"], 0, "it hangs, still");
    drop(waiting);
    world.stop();
}
