//! `[preset.NAME]` and `[[aggregator]]`.

use expect_test::expect;

use super::{config, fails};

#[test]
fn a_preset_says_where_things_are() {
    let config = config(
        r#"
        unix.preset = "edits"
        [preset.edits]
        type = "edit"
        timestamp = "/time"
        timestamp_format = "milliseconds"
        event_id = ["/wiki", "/id"]
        rename = { "/user_id" = "/user", "" = "/data", "/a~1b" = "/x" }
        required = ["/user_id"]
        [preset.api]
        type_path = "/event/~1kind"
        event_id = "/uuid"
        "#,
    );
    assert_eq!(config.unix.as_ref().unwrap().preset, config.preset("edits").unwrap());
    expect![[r#"
        [
            Preset {
                name: "api",
                constant_type: None,
                type_path: "/event/~1kind",
                timestamp_path: "/timestamp",
                timestamp_format: Rfc3339,
                event_id: [
                    "/uuid",
                ],
                rename: [],
                required: [],
            },
            Preset {
                name: "edits",
                constant_type: Some(
                    "edit",
                ),
                type_path: "/type",
                timestamp_path: "/time",
                timestamp_format: Milliseconds,
                event_id: [
                    "/wiki",
                    "/id",
                ],
                rename: [
                    (
                        "",
                        "/data",
                    ),
                    (
                        "/a~1b",
                        "/x",
                    ),
                    (
                        "/user_id",
                        "/user",
                    ),
                ],
                required: [
                    "/user_id",
                ],
            },
        ]
    "#]]
    .assert_debug_eq(&config.presets[config.presets.len() - 2..].to_vec());
}

#[test]
fn the_presets_that_come_with_tally_are_there() {
    for name in ["default", "activity", "segment", "segment-track", "segment-page", "segment-identify", "cloudevents"] {
        let config = config(&format!("tcp.preset = '{name}'\ntcp.listen = '127.0.0.1:0'"));
        assert_eq!(config.presets[config.tcp.unwrap().preset].name, name);
    }
    assert_eq!(config("").presets[0].name, "default");
    fails(
        "[preset.segment]\ntimestamp = '/t'\n[preset.default]",
        expect![[r#"
        2 mistakes in the configuration:
          tally.toml:4: preset.segment: this preset comes with Tally and cannot be changed; define one with a name of its own
          tally.toml:6: preset.default: this preset comes with Tally and cannot be changed; define one with a name of its own"#]],
    );
    fails(
        "unix.preset = 'segmnt'",
        expect![
            "tally.toml:4: unix.preset: there is no preset `segmnt`; add [preset.segmnt] or use one of: default, activity, segment, segment-track, segment-page, segment-identify, cloudevents"
        ],
    );
}

#[test]
fn presets_are_checked() {
    fails(
        "[preset.p]\ntype = 'edit'\ntype_path = '/type'",
        expect![[r#"
        tally.toml:5: preset.p.type: every event gets this type, so type_path means nothing; remove one of them
          warning: tally.toml:4: preset.p is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset"#]],
    );
    fails(
        "[preset.p]\ntype = ''\ntimestamp = 'time'\ntype_pat = '/x'",
        expect![[r#"
        3 mistakes in the configuration:
          tally.toml:5: preset.p.type: the type has 0 bytes; it must have 1 to 256
          tally.toml:6: preset.p.timestamp: "time" is no JSON pointer; write e.g. "/time" (`~0` stands for `~`, `~1` for `/`)
          tally.toml:7: preset.p.type_pat: unknown key; did you mean type_path?
          warning: tally.toml:4: preset.p is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset"#]],
    );
    fails(
        "[preset.p]\ntimestamp = '/ti~me'\ntimestamp_format = 'unix'",
        expect![[r#"
        2 mistakes in the configuration:
          tally.toml:5: preset.p.timestamp: "/ti~me" is no JSON pointer; write e.g. "/ti~0me" (`~0` stands for `~`, `~1` for `/`)
          tally.toml:6: preset.p.timestamp_format: "unix" is none of rfc3339, seconds, milliseconds, microseconds
          warning: tally.toml:4: preset.p is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset"#]],
    );
    fails(
        "[preset.p]\nevent_id = 5\nrename = '/a'\nrequired = [1]",
        expect![[r#"
        3 mistakes in the configuration:
          tally.toml:5: preset.p.event_id: found the number 5; write a JSON pointer in quotes, or a list of them
          tally.toml:6: preset.p.rename: found the text "/a"; write { "/wanted" = "/where/it/is" }
          tally.toml:7: preset.p.required: found something other than text in the list; write JSON pointers in quotes
          warning: tally.toml:4: preset.p is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset"#]],
    );
    fails(
        "[preset.p]\nevent_id = ['/a', 'b']\nrename = { '/a' = 5, 'b' = '/c', '/d' = '' }",
        expect![[r#"
        4 mistakes in the configuration:
          tally.toml:5: preset.p.event_id: "b" is no JSON pointer; write e.g. "/b" (`~0` stands for `~`, `~1` for `/`)
          tally.toml:6: preset.p.rename: "" is no JSON pointer; write e.g. "/" (`~0` stands for `~`, `~1` for `/`)
          tally.toml:6: preset.p.rename: "/a" is the number 5; write a JSON pointer
          tally.toml:6: preset.p.rename: "b" is no JSON pointer; write e.g. "/b" (`~0` stands for `~`, `~1` for `/`)
          warning: tally.toml:4: preset.p is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset"#]],
    );
    fails(
        "[preset.'p p']\n[preset]\nx = 5",
        expect![[r#"
        2 mistakes in the configuration:
          tally.toml:4: preset.p p: "p p" is no name; names have 1 to 64 of the characters a-z A-Z 0-9 - _ . and do not begin with a dot
          tally.toml:6: preset.x: found the number 5; write [preset.x] on a line of its own, and its keys below"#]],
    );
    fails("preset = 5", expect!["tally.toml:4: preset: write [preset.NAME] on a line of its own, and its keys below"]);
}

#[test]
fn an_aggregator_has_a_plugin_a_name_and_settings() {
    let config = config(
        r#"
        [[aggregator]]
        plugin = "video-actions"
        [[aggregator]]
        name = "likes"
        plugin = "video-actions"
        settings = { weights = { view = -1, "b\"" = 0.5 }, "a" = [true, 1979-05-27, "x"], h = 0x1F }
        shards = 4
        start = "2026-01-27T11:00:00+01:00"
        "#,
    );
    expect![[r#"
        [
            Aggregator {
                name: "video-actions",
                plugin: "video-actions",
                settings: "{}",
                shards: 1,
                start: Now,
            },
            Aggregator {
                name: "likes",
                plugin: "video-actions",
                settings: "{\"a\":[true,\"1979-05-27\",\"x\"],\"h\":31,\"weights\":{\"b\\\"\":0.5,\"view\":-1}}",
                shards: 4,
                start: Time(
                    1769508000000000,
                ),
            },
        ]
    "#]]
    .assert_debug_eq(&config.aggregators);
}

#[test]
fn aggregators_are_checked() {
    fails(
        "[[aggregator]]\nplugin = 'a'\n[[aggregator]]\nplugin = 'b'\nname = 'a'",
        expect![
            "tally.toml:6: aggregator[1].name: `a` is the name of an earlier [[aggregator]]; give it a `name` of its own"
        ],
    );
    fails(
        "[[aggregator]]\nplugin = 'a.wasm'\n[[aggregator]]\nplugin = '../a'\n[[aggregator]]\nname = ''",
        expect![[r#"
            4 mistakes in the configuration:
              tally.toml:5: aggregator[0].plugin: "a.wasm" is a file name; write it without .wasm: "a"
              tally.toml:7: aggregator[1].plugin: "../a" is no name; names have 1 to 64 of the characters a-z A-Z 0-9 - _ . and do not begin with a dot
              tally.toml:8: aggregator[2].plugin: missing; write the plugin's file name without .wasm
              tally.toml:9: aggregator[2].name: "" is no name; names have 1 to 64 of the characters a-z A-Z 0-9 - _ . and do not begin with a dot"#]],
    );
    fails(
        "[[aggregator]]\nplugin = 5\nsetings = {}",
        expect![[r#"
        2 mistakes in the configuration:
          tally.toml:5: aggregator[0].plugin: found the number 5; write text in quotes
          tally.toml:6: aggregator[0].setings: unknown key; did you mean settings?"#]],
    );
    fails(
        "[[aggregator]]\nplugin = 'a'\nsettings = { a = [1, nan] }",
        expect!["tally.toml:6: aggregator[0].settings.a[1]: not a finite number below 2^63; JSON has no such value"],
    );
    fails(
        "[[aggregator]]\nplugin = 'a'\nsettings = 5",
        expect!["tally.toml:6: aggregator[0].settings: found the number 5; write { key = value }"],
    );
    fails(
        "[[aggregator]]\nplugin = 'a'\nshards = 0\n[[aggregator]]\nplugin = 'b'\nshards = 65\n\
         [[aggregator]]\nplugin = 'c'\nshards = '2'\n[[aggregator]]\nplugin = 'd'\nshards = -1",
        expect![[r#"
            4 mistakes in the configuration:
              tally.toml:6: aggregator[0].shards: 0 is not between 1 and 64
              tally.toml:9: aggregator[1].shards: 65 is not between 1 and 64
              tally.toml:12: aggregator[2].shards: "2" is text; write the number without quotes
              tally.toml:15: aggregator[3].shards: -1 is not between 0 and 2^64"#]],
    );
    fails(
        "[aggregator]\nplugin = 'a'",
        expect!["tally.toml:4: aggregator: write [[aggregator]], with two brackets, on a line of its own"],
    );
}
