//! Components that are never taken, or take long: the reason is in `plugin list`, and nobody waits for them.

use tally_tests::torture::versions::{renamed, table_growth};
use tally_tests::{component, text, wait_until};

use crate::traffic::{LIMITS, World};

/// The only import that there is; names of the same length keep the component valid.
const LOG: &str = "tally:aggregator/log@0.1.0";

fn probe() -> Vec<u8> {
    std::fs::read(component("TALLY_FIXTURES_DIR", "fixtures", "probe")).expect("the probe")
}

/// An unsigned number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(low | if number > 0 { 0x80 } else { 0 });
        if number == 0 {
            return bytes;
        }
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// The probe with a core module of this many bytes behind it: functions of arithmetic that nobody calls, but that have to be
/// compiled.
fn slow_to_compile(bytes: usize) -> Vec<u8> {
    // (local.get 0) (i64.const N) i64.mul (local.get 0) i64.xor ..., with one local per function.
    let mut code = vec![0, 0x20, 0];
    for nth in 0..1000u32 {
        code.extend([0x42, (nth % 60) as u8, 0x7e, 0x20, 0, 0x85]);
    }
    code.push(0x0b);
    let function = [leb(code.len()), code].concat();
    let count = bytes / function.len();
    let types = section(1, &[1, 0x60, 1, 0x7e, 1, 0x7e]);
    let functions = section(3, &[leb(count), vec![0; count]].concat());
    let code = section(10, &[leb(count), function.repeat(count)].concat());
    let module = [&b"\0asm\x01\0\0\0"[..], &types, &functions, &code].concat();
    [probe(), section(1, &module)].concat()
}

#[test]
fn components_that_cannot_be_are_refused_with_the_reason() {
    let mut world = World::new(LIMITS, &[]);
    let whole = probe();
    let mut refused = vec![
        ("clock", renamed(&whole, LOG, "wasi:clocks/timezone@0.2.0"), "it imports `wasi:clocks/timezone@0.2.0`"),
        ("random", renamed(&whole, LOG, "wasi:random/insecure@0.2.0"), "it imports `wasi:random/insecure@0.2.0`"),
        ("sockets", renamed(&whole, LOG, "wasi:sockets/network@0.2.0"), "it imports `wasi:sockets/network@0.2.0`"),
        (
            "world",
            renamed(&whole, "tally:aggregator/aggregator@0.1.0", "tally:aggregator/aggregator@0.2.0"),
            "it exports `tally:aggregator/aggregator@0.2.0`, but this daemon speaks",
        ),
        ("module", b"\0asm\x01\0\0\0".to_vec(), "it is a core module"),
        ("empty", Vec::new(), "the file is empty"),
        ("text", b"(component)".to_vec(), "it does not begin with `\\0asm`"),
    ];
    for (name, length) in [("eighth", whole.len() / 8), ("half", whole.len() / 2), ("nearly", whole.len() - 1)] {
        refused.push((name, whole[..length].to_vec(), "not a usable WebAssembly component"));
    }
    for (name, bytes, _) in &refused {
        world.work.put_plugin(name, bytes);
        world.send(40, None);
    }
    let reload = world.admin(&["plugin", "reload"]);
    assert_eq!(reload.status.code(), Some(1), "not everything wanted runs");
    for (name, _, says) in &refused {
        let listed = world.listed(name);
        assert_eq!(listed["state"], "failed", "{listed}");
        assert!(listed["reason"].as_str().expect("a reason").contains(says), "{listed}");
    }
    world.is_unharmed();
    world.end();
}

#[test]
fn a_module_that_is_slow_to_compile_keeps_nobody_waiting() {
    let mut world = World::new(LIMITS, &[]);
    // While it is compiled events are acknowledged, counted and asked for. A machine that compiles it within the first round
    // gets one that takes longer.
    let shown = [10, 20, 40].into_iter().any(|mebibytes| {
        let name = format!("slow-{mebibytes}");
        world.work.put_plugin(&name, &slow_to_compile(mebibytes << 20));
        let mut meanwhile = 0;
        wait_until("it is compiled", || {
            world.send(20, None);
            world.is_unharmed();
            meanwhile += 1;
            let list = world.work.ask(&["plugin", "list"]);
            list["plugins"].as_array().expect("a list").iter().any(|one| one["name"] == *name)
        });
        assert_eq!(world.listed(&name)["state"], "running", "it is slow, but right");
        world.send(20, None);
        world.caught_up(&name);
        meanwhile > 1
    });
    assert!(shown, "whoever is compiled, nothing else happens meanwhile");
    world.end();
}

#[test]
fn a_table_that_grows_without_end_reaches_its_limit() {
    let mut world = World::new(LIMITS, &[]);
    world.work.put_plugin("grows", &table_growth());
    let reload = world.admin(&["plugin", "reload"]);
    assert!(reload.status.success(), "{}", text(&reload));
    assert_eq!(world.listed("grows")["state"], "running");
    world.send(250, None);
    let reason = world.quarantined("grows");
    assert!(reason.contains("table elements wanted, 100000 allowed"), "{reason}");
    world.is_unharmed();
    world.end();
}
