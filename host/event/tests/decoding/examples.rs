//! Lines by hand, and what becomes of them.

use crate::view;
use expect_test::{Expect, expect};
use std::sync::Arc;
use tally_event::decode::{Decoder, Mode, Pushed};
use tally_event::plan::{Limits, Plan, PlanError, Subscriber};
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset};

/// A subscriber to one event type; `?` marks optional fields: `"/user text, /n? integer"`.
fn subscriber(name: &str, event_type: &str, fields: &str) -> Subscriber {
    let mut parsed = EventType { name: event_type.into(), required: vec![], optional: vec![] };
    let mut all = Vec::new();
    for (index, field) in fields.split(", ").filter(|field| !field.is_empty()).enumerate() {
        let (path, kind) = field.split_once(' ').unwrap();
        let optional = path.ends_with('?');
        let list = if optional { &mut parsed.optional } else { &mut parsed.required };
        list.push(index as u32);
        let kind = match kind {
            "text" => Kind::Text,
            "integer" => Kind::Integer,
            "float" => Kind::Float,
            "json" => Kind::Json,
            "boolean" => Kind::Boolean,
            "timestamp" => Kind::Timestamp,
            "decimal" => Kind::Decimal(2),
            other => panic!("no kind {other}"),
        };
        all.push(Field { path: path.trim_end_matches('?').into(), kind });
    }
    let manifest = Manifest {
        fields: all,
        event_types: vec![parsed],
        ordering: Ordering::Commutative,
        state_version: "1".into(),
        loads: vec![],
        refusals: vec![],
    };
    Subscriber { name: name.into(), manifest: Arc::new(manifest) }
}

fn plan(subscribers: &[Subscriber]) -> Arc<Plan> {
    Arc::new(Plan::new(subscribers.into(), vec![Preset::default()], Limits::default()).unwrap())
}

fn rejects(pushed: &Pushed) -> String {
    let line = |r: &tally_event::decode::Reject| {
        let field = r.field.as_ref().map(|field| format!(" at {field:?}")).unwrap_or_default();
        format!("line {} {}{field}: {}\n", r.line, r.reason, r.detail)
    };
    pushed.rejects.iter().map(line).collect()
}

fn check_with(subscribers: &[Subscriber], mode: Mode, lines: &[u8], expected: Expect) {
    let plan = plan(subscribers);
    let mut decoder = Decoder::new(plan.clone());
    let pushed = decoder.push(0, lines, mode);
    let mut batch = decoder.finish();
    batch.stamp(1, 0);
    let mut out = rejects(&pushed);
    for (index, subscriber) in subscribers.iter().enumerate() {
        out.push_str(&format!("{}:\n", subscriber.name));
        out.push_str(&view::render(&batch.for_subscriber(index), &subscriber.manifest));
    }
    expected.assert_eq(&out);
}

fn check(fields: &str, lines: &str, expected: Expect) {
    check_with(&[subscriber("a", "e", fields)], Mode::Admit, lines.as_bytes(), expected);
}

#[test]
fn every_kind() {
    check(
        "/t text, /i integer, /d decimal, /f float, /b boolean, /at timestamp, /j json",
        "{\"type\":\"e\",\"timestamp\":\"2026-01-27T10:00:00.123Z\",\"t\":\"a\\u00e9\\n\",\"i\":-1e2,\"d\":12.3,\"f\":1e-3,\
         \"b\":true,\"at\":\"1970-01-01T01:00:00+01:00\",\"j\":{\"k\": [1, null]}}\n",
        expect![[r#"
            a:
            1 e 2026-01-27T10:00:00.123Z /t="aé\n" /i=-100 /d=1230 /f=0.001 /b=true /at=0 /j="{\"k\": [1, null]}"
        "#]],
    );
}

#[test]
fn half_a_surrogate_pair_becomes_the_replacement_character() {
    check(
        "/t text",
        "{\"type\":\"e\",\"t\":\"\\ud800\"}\n{\"type\":\"e\",\"t\":\"\\udc00\\ud800x\\ud800\\u0041\\ud83d\\ude00\\uDBFF\\uDFFF\"}\n",
        expect![[r#"
            a:
            1 e 1970-01-01T00:00:00Z /t="�"
            2 e 1970-01-01T00:00:00Z /t="��x�A😀\u{10ffff}"
        "#]],
    );
}

#[test]
fn the_last_of_equal_keys_wins_with_everything_in_it() {
    check(
        "/p/x? integer, /p/y? integer, /q? integer",
        "{\"type\":\"e\",\"p\":{\"x\":1},\"p\":{\"y\":2}}\n{\"type\":\"e\",\"p\":{\"x\":1},\"p\":null}\n\
         {\"type\":\"e\",\"q\":\"text\",\"q\":3}\n{\"type\":\"none\",\"q\":3,\"type\":\"e\",\"q\":null}\n",
        expect![[r#"
            a:
            1 e 1970-01-01T00:00:00Z /p/x=- /p/y=2 /q=-
            2 e 1970-01-01T00:00:00Z /p/x=- /p/y=- /q=-
            3 e 1970-01-01T00:00:00Z /p/x=- /p/y=- /q=3
            4 e 1970-01-01T00:00:00Z /p/x=- /p/y=- /q=-
        "#]],
    );
}

#[test]
fn pointers_reach_into_objects_and_arrays() {
    check(
        "/items/0? text, /items/10? integer, /p/0? text, /a~1b/~0? integer",
        "{\"type\":\"e\",\"items\":[\"x\",0,0,0,0,0,0,0,0,0,7,8],\"p\":{\"0\":\"key\"},\"a/b\":{\"~\":5}}\n\
         {\"type\":\"e\",\"items\":{\"0\":\"key\"},\"p\":[\"index\"]}\n{\"type\":\"e\",\"items\":[],\"p\":1}\n",
        expect![[r#"
            a:
            1 e 1970-01-01T00:00:00Z /items/0="x" /items/10=7 /p/0="key" /a~1b/~0=5
            2 e 1970-01-01T00:00:00Z /items/0="key" /items/10=- /p/0="index" /a~1b/~0=-
            3 e 1970-01-01T00:00:00Z /items/0=- /items/10=- /p/0=- /a~1b/~0=-
        "#]],
    );
}

#[test]
fn the_whole_event_can_be_taken_as_json() {
    check(
        " json",
        " {\"type\" : \"e\"} \r\n{\"type\":\"e\",\"x\":[]}",
        expect![[r#"
            a:
            1 e 1970-01-01T00:00:00Z ="{\"type\" : \"e\"}"
            2 e 1970-01-01T00:00:00Z ="{\"type\":\"e\",\"x\":[]}"
        "#]],
    );
}

#[test]
fn every_reject_says_what_is_wrong() {
    let deep = format!("{{\"type\":\"e\",\"x\":{}{}}}\n", "[".repeat(64), "]".repeat(64));
    let fine = format!("{{\"type\":\"e\",\"x\":{}{}}}\n", "[".repeat(63), "]".repeat(63));
    let long = format!("{{\"type\":\"e\",\"x\":\"{}\"}}\n", "x".repeat(1 << 20));
    let type_too_long = format!("{{\"type\":\"{}\"}}\n", "t".repeat(257));
    let mut lines = b"{\"type\":\"e\"\n{'type':1}\n{\"type\" \"e\"}\n{\"type\":\"e\",}\n{\"type\":\"e\"} x\n{\"a\":tru}\n{\"a\":01}\n{\"a\":\"\\x\"}\n{\"a\":\"\\v\"}\n{\"a\":[1}}\n{\"a\":{\"b\":1]}\n\
        {\"a\":\"\tx\"}\n{\"a\":\"x\n[1,2]\n\"text\"\n[1,2\n{\"a\":\"\xff\"}\n\xff\n\n{}\n{\"type\":null}\n{\"type\":1}\n{\"type\":\"\"}\n\
        {\"type\":\"e\",\"timestamp\":\"yesterday\"}\n{\"type\":\"e\",\"timestamp\":1769508000}\n"
        .to_vec();
    for more in [deep, fine, long, type_too_long] {
        lines.extend_from_slice(more.as_bytes());
    }
    check_with(
        &[subscriber("a", "e", "/n? integer")],
        Mode::Admit,
        &lines,
        expect![[r#"
            line 0 invalid_json: byte 12: ',' or '}' was expected
            line 1 invalid_json: byte 2: a key in double quotes was expected
            line 2 invalid_json: byte 9: ':' was expected after the key
            line 3 invalid_json: byte 13: a key in double quotes was expected
            line 4 invalid_json: byte 14: nothing may follow the object
            line 5 invalid_json: byte 6: a value was expected
            line 6 invalid_json: byte 6: no JSON number
            line 7 invalid_json: byte 7: no such escape
            line 8 invalid_json: byte 7: no such escape
            line 9 invalid_json: byte 8: ',' or ']' was expected
            line 10 invalid_json: byte 12: ',' or '}' was expected
            line 11 invalid_json: byte 7: control characters must be escaped in a string
            line 12 invalid_json: byte 8: the string does not end on its line
            line 13 not_an_object: an event is a JSON object
            line 14 not_an_object: an event is a JSON object
            line 15 invalid_json: byte 5: ',' or ']' was expected
            line 16 invalid_utf8: byte 7 is not UTF-8
            line 17 invalid_utf8: byte 1 is not UTF-8
            line 19 missing_type at "/type": the event has no type
            line 20 missing_type at "/type": the event has no type
            line 21 invalid_type at "/type": the type must be text of 1 to 256 bytes, not 1
            line 22 invalid_type at "/type": the type must be text of 1 to 256 bytes, not ""
            line 23 invalid_timestamp at "/timestamp": the timestamp must be RFC 3339, e.g. "2026-01-27T10:00:00.123Z", not "yesterday"
            line 24 invalid_timestamp at "/timestamp": the timestamp must be RFC 3339, e.g. "2026-01-27T10:00:00.123Z", not 1769508000; a preset with a timestamp_format takes numbers
            line 25 too_deep: byte 80: nested more than 64 deep
            line 27 line_too_long: 1048595 bytes; at most 1048576 are taken
            line 28 invalid_type at "/type": the type must be text of 1 to 256 bytes, not "ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt... (259 bytes)
            a:
            1 e 1970-01-01T00:00:00Z /n=-
        "#]],
    );
}

#[test]
fn what_all_refuse_is_rejected_when_it_is_new_and_kept_when_it_was_logged() {
    let subscribers =
        [subscriber("a", "e", "/user text"), subscriber("b", "e", "/n integer"), subscriber("c", "x", "")];
    let lines = b"{\"type\":\"e\",\"user\":\"u\",\"n\":1}\n{\"type\":\"e\",\"user\":\"u\"}\n{\"type\":\"e\",\"user\":5}\n{\"type\":\"x\"}\n{\"type\":\"y\"}\n";
    check_with(
        &subscribers,
        Mode::Admit,
        lines,
        expect![[r#"
            line 2 refused_by_all at "/user": a wrong_kind:/user, b missing:/n
            a:
            1 e 1970-01-01T00:00:00Z /user="u"
            2 e 1970-01-01T00:00:00Z /user="u"
            2 not subscribed
            b:
            1 e 1970-01-01T00:00:00Z /n=1
            2 refused missing:/n
            2 not subscribed
            c:
            3 x 1970-01-01T00:00:00Z
            3 not subscribed
        "#]],
    );
    check_with(
        &subscribers,
        Mode::Replay,
        lines,
        expect![[r#"
        a:
        1 e 1970-01-01T00:00:00Z /user="u"
        2 e 1970-01-01T00:00:00Z /user="u"
        3 refused wrong_kind:/user
        2 not subscribed
        b:
        1 e 1970-01-01T00:00:00Z /n=1
        2 refused missing:/n
        3 refused missing:/n
        2 not subscribed
        c:
        4 x 1970-01-01T00:00:00Z
        4 not subscribed
    "#]],
    );
}

#[test]
fn fields_of_other_types_stay_hidden() {
    let mut own = (*subscriber("a", "e", "/user text, /n integer").manifest).clone();
    own.event_types = vec![
        EventType { name: "e".into(), required: vec![0], optional: vec![] },
        EventType { name: "*".into(), required: vec![], optional: vec![1] },
    ];
    let own = Subscriber { name: "a".into(), manifest: Arc::new(own) };
    check_with(
        &[own, subscriber("b", "e", "/n? integer")],
        Mode::Admit,
        b"{\"type\":\"e\",\"user\":\"u\",\"n\":1}\n{\"type\":\"other\",\"user\":\"u\",\"n\":2}\n",
        expect![[r#"
            a:
            1 e 1970-01-01T00:00:00Z /user="u" /n=-
            2 * 1970-01-01T00:00:00Z /user=- /n=2
            b:
            1 e 1970-01-01T00:00:00Z /n=1
            1 not subscribed
        "#]],
    );
}

#[test]
fn presets_say_where_type_and_time_are() {
    let presets = vec![
        Preset::default(),
        Preset {
            name: "edits".into(),
            constant_type: Some("e".into()),
            timestamp_path: "/time".into(),
            ..Preset::default()
        },
    ];
    let manifest = subscriber("a", "e", "/page text");
    let plan = Arc::new(Plan::new(vec![manifest.clone()], presets, Limits::default()).unwrap());
    let mut decoder = Decoder::new(plan);
    decoder.push(1, b"{\"time\":\"2015-09-12T00:46:58.771Z\",\"page\":\"Rallicula\"}\n", Mode::Admit);
    decoder.push(0, b"{\"type\":\"e\",\"time\":\"2015-09-12T00:46:58.771Z\",\"page\":\"x\"}\n", Mode::Admit);
    let mut batch = decoder.finish();
    assert_eq!(batch.max_time(), Some(1_442_018_818_771_000));
    batch.stamp(7, 1_769_508_000_000_000);
    assert_eq!(batch.max_time(), Some(1_769_508_000_000_000));
    expect![[r#"
        7 e 2015-09-12T00:46:58.771Z /page="Rallicula"
        8 e 2026-01-27T10:00:00Z /page="x"
    "#]]
    .assert_eq(&view::render(&batch.for_subscriber(0), &manifest.manifest));
    assert_eq!(decoder.finish().max_time(), None);
}

#[test]
fn plans_that_cannot_work_are_refused() {
    let refused = |subscribers: &[Subscriber], preset: Preset, limits: Limits, expected: Expect| {
        let error: PlanError = Plan::new(subscribers.into(), vec![preset], limits).expect_err("must be refused");
        let source = std::error::Error::source(&error).map(|source| format!(" / {source}")).unwrap_or_default();
        expected.assert_eq(&format!("{error}{source}"));
    };
    let (sound, limits) = (subscriber("a", "e", "/user text"), Limits::default());
    let preset = |type_path: &str, constant: Option<&str>| Preset {
        type_path: type_path.into(),
        constant_type: constant.map(Into::into),
        ..Preset::default()
    };
    refused(
        &[subscriber("a", "e", "user text")],
        Preset::default(),
        limits,
        expect![[
            r#"aggregator a: manifest: fields[0].path: "user" is no RFC 6901 pointer: it must start with "/", e.g. "/user""#
        ]],
    );
    refused(
        &[sound.clone(), sound.clone()],
        Preset::default(),
        limits,
        expect![[r#"two aggregators are called "a"; rename one"#]],
    );
    refused(
        std::slice::from_ref(&sound),
        preset("type", None),
        limits,
        expect![[r#"preset default: type: "type" is no RFC 6901 pointer: it must start with "/", e.g. "/type""#]],
    );
    refused(
        std::slice::from_ref(&sound),
        preset("", None),
        limits,
        expect![[r#"preset default: type "" is the whole event; give a pointer such as "/type""#]],
    );
    refused(
        std::slice::from_ref(&sound),
        preset("/type", Some("")),
        limits,
        expect!["preset default: the constant type is empty"],
    );
    refused(
        &[sound],
        Preset::default(),
        Limits { depth: 1000, ..limits },
        expect!["limit depth is 1000; it must be 1 to 128"],
    );
}

#[test]
fn one_path_read_as_two_kinds_is_warned_of() {
    let plan = plan(&[subscriber("a", "e", "/n text, /m text"), subscriber("b", "x", "/n integer, /m text")]);
    expect![[r#""/n" is read as text by a, as integer by b; an event that fits one may be refused for another"#]]
        .assert_eq(&plan.warnings().join("\n"));
}
