//! Calls that fail: every way, in every function, all at once beside a plugin that does nothing wrong.

use crate::traffic::{LIMITS, World};

/// Aggregators of the probe, and what the reason of their quarantine says.
const QUARANTINED: &[(&str, &str, &str)] = &[
    ("trap-apply", "{ trap_in = \"apply\" }", "`apply` trapped"),
    ("trap-create", "{ trap_in = \"create\" }", "`create` trapped"),
    ("trap-save", "{ trap_in = \"save\" }", "`save` trapped"),
    ("trap-load", "{ trap_in = \"load\" }", "`load` trapped"),
    ("trap-merge", "{ trap_in = \"merge\" }", "`merge` trapped"),
    ("trap-report", "{ trap_in = \"report\" }", "`report` trapped"),
    ("trap-nth", "{ trap_on_nth = 50 }", "plugin.strikes allows 16"),
    ("loop-apply", "{ loop_in = \"apply\" }", "`apply` used up its compute budget"),
    ("loop-save", "{ loop_in = \"save\" }", "`save` used up its compute budget"),
    ("loop-report", "{ loop_in = \"report\" }", "`report` used up its compute budget"),
    ("grow-apply", "{ grow_in = \"apply\" }", "`apply` wanted too much memory"),
    ("grow-merge", "{ grow_in = \"merge\" }", "`merge` wanted too much memory"),
    ("recurse-apply", "{ recurse_in = \"apply\" }", "`apply` trapped: call stack exhausted"),
    ("recurse-load", "{ recurse_in = \"load\" }", "`load` trapped: call stack exhausted"),
    ("crowds", "{ trap_above_rows = 3 }", "plugin.strikes allows 16"),
    ("swells", "{ swell = 65536 }", "wanted too much memory"),
    ("refuses", "{ lying_refusals = true }", "`apply` refused row"),
    ("gibibyte", "{ huge_report = 1024 }", "`report` wanted too much memory"),
    ("lies-rows", "{ lie = \"rows\" }", "it has 1 rows, but column \"type\" has 3"),
    ("lies-code", "{ lie = \"code\" }", "row 2 is entry 7, but there are 3 entries"),
    ("lies-ends", "{ lie = \"ends\" }", "before its start, past the text"),
    ("lies-beyond", "{ lie = \"beyond\" }", "entry 2 ends at 4294967295"),
    ("lies-utf8", "{ lie = \"utf8\" }", "its text is not UTF-8"),
    ("lies-present", "{ lie = \"present\" }", "says of 1 whether they are present"),
    ("lies-name", "{ lie = \"name\" }", "the name has 1048576 bytes"),
    ("lies-twice", "{ lie = \"twice\" }", "the name stands twice"),
    ("lies-kind", "{ lie = \"kind\" }", "its values do not fit its kind"),
    ("lies-none", "{ lie = \"none\" }", "`report` gave no table"),
    ("lies-two", "{ lie = \"two\" }", "it has 1 rows, but column \"actions\" has 2"),
    ("lies-more", "{ lie = \"more\" }", "as they would be written"),
    ("lies-gigabyte", "{ lie = \"gigabyte\" }", "as they would be written"),
    ("lies-pointer", "{ lie = \"pointer\" }", "`report`"),
    ("lies-length", "{ lie = \"length\" }", "`report`"),
];

#[test]
fn whoever_fails_is_quarantined_alone() {
    let mut aggregators: Vec<(&str, &str)> = QUARANTINED.iter().map(|(name, settings, _)| (*name, *settings)).collect();
    aggregators.push(("floods", "{ log_in = \"apply\" }"));
    let mut world = World::new(LIMITS, &aggregators);
    for _ in 0..24 {
        world.send(50, None);
    }
    world.is_unharmed();
    for (name, _, says) in QUARANTINED {
        let reason = world.quarantined(name);
        assert!(reason.contains(says), "{name}: {reason}");
        world.send(1, None);
    }
    // Who only talks too much goes on; what it said is bounded.
    assert_eq!(world.caught_up("floods")["applied"], world.sent());
    let log = world.work.log();
    assert!(log.contains("the plugin logged more lines than it may in a second"), "dropped lines are counted");
    let peak = world.peak_memory();
    assert!(peak < 1500, "the daemon had up to {peak} MiB");
    // Quarantine is for good, and costs the others nothing after a restart either.
    world.restart();
    world.send(250, None);
    for (name, ..) in QUARANTINED {
        assert_eq!(world.listed(name)["state"], "quarantined", "{name}");
    }
    let work = world.end();
    let records = work.records();
    let quarantined = records.last().expect("a record")["quarantined"].as_object().expect("who is left out").clone();
    assert_eq!(quarantined.len(), QUARANTINED.len(), "{quarantined:?}");
}
