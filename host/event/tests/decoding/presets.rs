//! What presets do to lines, by hand.

use crate::differential::check_counts;
use crate::view;
use expect_test::{Expect, expect};
use std::sync::Arc;
use tally_event::decode::{Decoder, Mode};
use tally_event::plan::{Limits, Plan, Subscriber};
use tally_event::presets::shipped;
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset, TimestampFormat};

/// A subscriber to every event, which may have these fields.
pub fn subscriber(fields: &[(&str, Kind)]) -> Subscriber {
    let field = |&(path, kind): &(&str, Kind)| Field { path: path.into(), kind };
    let all = EventType { name: "*".into(), required: vec![], optional: (0..fields.len() as u32).collect() };
    let manifest = Manifest {
        fields: fields.iter().map(field).collect(),
        event_types: vec![all],
        ordering: Ordering::Commutative,
        state_version: "1".into(),
        loads: vec![],
        refusals: vec![],
    };
    Subscriber { name: "a".into(), manifest: Arc::new(manifest) }
}

/// A decoder by one preset.
pub fn decoder(subscribers: Vec<Subscriber>, preset: Preset) -> Decoder {
    Decoder::new(Arc::new(Plan::new(subscribers, vec![preset], Limits::default()).unwrap()))
}

fn check(preset: &Preset, fields: &[(&str, Kind)], lines: &str, expected: Expect) {
    let subscriber = subscriber(fields);
    let mut decoder = decoder(vec![subscriber.clone()], preset.clone());
    let pushed = decoder.push(0, lines.as_bytes(), Mode::Admit);
    check_counts(lines.as_bytes(), &pushed);
    let mut batch = decoder.finish();
    batch.stamp(1, 0);
    let mut out = String::new();
    for reject in &pushed.rejects {
        let field = reject.field.as_deref().unwrap_or("-");
        out.push_str(&format!("line {} {} at {field}: {}\n", reject.line, reject.reason, reject.detail));
    }
    for id in &pushed.ids {
        out.push_str(&format!("line {} has an id\n", id.line));
    }
    out.push_str(&view::render(&batch.for_subscriber(0), &subscriber.manifest));
    expected.assert_eq(&out);
}

fn called(name: &str) -> &'static Preset {
    shipped().iter().find(|preset| preset.name == name).unwrap()
}

#[test]
fn activities_need_a_user() {
    check(
        called("activity"),
        &[("/type", Kind::Text), ("/user_id", Kind::Text)],
        "{\"activity_type\":\"like\",\"user_id\":\"u\",\"timestamp\":\"2026-01-27T10:00:00Z\"}\n\
         {\"activity_type\":\"like\",\"event_id\":7,\"user_id\":null}\n{\"type\":\"like\",\"user_id\":\"u\"}\n",
        expect![[r#"
            line 1 missing_field at /user_id: preset activity requires a value other than null there
            line 2 missing_type at /activity_type: the event has no type
            1 * 2026-01-27T10:00:00Z /type="like" /user_id="u"
        "#]],
    );
}

#[test]
fn segment_calls_are_read_by_their_own_names() {
    let fields = [
        ("/user_id", Kind::Text),
        ("/anonymous_id", Kind::Text),
        ("/event", Kind::Text),
        ("/properties/price", Kind::Decimal(2)),
        ("/context/ip", Kind::Text),
    ];
    let lines = "{\"type\":\"track\",\"event\":\"Bought\",\"userId\":\"u\",\"anonymousId\":\"a\",\"messageId\":\"m\",\
         \"properties\":{\"price\":9.5},\"context\":{\"ip\":\"::1\"},\"timestamp\":\"2026-01-27T10:00:00.5Z\"}\n\
         {\"name\":\"Home\",\"userId\":5,\"messageId\":true}\n";
    check(
        called("segment"),
        &fields,
        lines,
        expect![[r#"
            line 1 missing_type at /type: the event has no type
            line 0 has an id
            1 * 2026-01-27T10:00:00.500Z /user_id="u" /anonymous_id="a" /event="Bought" /properties/price=950 /context/ip="::1"
        "#]],
    );
    check(
        called("segment-page"),
        &fields,
        lines,
        expect![[r#"
            line 1 invalid_event_id at /messageId: the event id must be text or an integer of at most 256 bytes, not true
            line 0 has an id
            1 * 2026-01-27T10:00:00.500Z /user_id="u" /anonymous_id="a" /event="Bought" /properties/price=950 /context/ip="::1"
        "#]],
    );
}

#[test]
fn of_cloud_events_the_data_is_read() {
    check(
        called("cloudevents"),
        &[
            ("/user_id", Kind::Text),
            ("/cart/items", Kind::Integer),
            ("/type", Kind::Text),
            ("/timestamp", Kind::Text),
            ("/event_id", Kind::Text),
            ("", Kind::Json),
        ],
        "{\"specversion\":\"1.0\",\"type\":\"t\",\"source\":\"/s\",\"id\":\"1\",\"time\":\"2026-01-27T10:00:00Z\",\
         \"data\":{\"user_id\":\"u\",\"cart\":{\"items\":2},\"type\":\"no\"}}\n{\"type\":\"t\",\"id\":\"1\",\"user_id\":\"no\"}\n",
        expect![[r#"
            line 0 has an id
            1 * 2026-01-27T10:00:00Z /user_id="u" /cart/items=2 /type="t" /timestamp="2026-01-27T10:00:00Z" /event_id="1" ="{\"specversion\":\"1.0\",\"type\":\"t\",\"source\":\"/s\",\"id\":\"1\",\"time\":\"2026-01-27T10:00:00Z\",\"data\":{\"user_id\":\"u\",\"cart\":{\"items\":2},\"type\":\"no\"}}"
            2 * 1970-01-01T00:00:00Z /user_id=- /cart/items=- /type="t" /timestamp=- /event_id="1" ="{\"type\":\"t\",\"id\":\"1\",\"user_id\":\"no\"}"
        "#]],
    );
}

#[test]
fn refusals_name_the_place_in_the_line() {
    check(
        called("cloudevents"),
        &[("/n", Kind::Integer)],
        "{\"type\":\"t\",\"data\":{\"n\":\"x\"}}\n",
        expect![[r#"
            line 0 refused_by_all at /data/n: a wrong_kind:/n
        "#]],
    );
}

#[test]
fn times_since_the_epoch() {
    let preset = Preset { timestamp_format: TimestampFormat::Seconds, ..Preset::default() };
    let line = |time: &str| format!("{{\"type\":\"t\",\"timestamp\":{time}}}\n");
    let times = [
        "1769508000",
        "1769508000.1234567",
        "1.769508e9",
        "\"1769508000.5\"",
        "-0.0000001",
        "null",
        "\"2026-01-27T10:00:00Z\"",
        "253402300800",
        "\" 1\"",
        "\"\"",
        "[]",
        "1e400",
    ];
    check(
        &preset,
        &[],
        &times.map(line).concat(),
        expect![[r#"
            line 6 invalid_timestamp at /timestamp: the timestamp must be seconds since 1970 within the years 0001 to 9999, e.g. 1769508000.123, not "2026-01-27T10:00:00Z"
            line 7 invalid_timestamp at /timestamp: the timestamp must be seconds since 1970 within the years 0001 to 9999, e.g. 1769508000.123, not 253402300800
            line 8 invalid_timestamp at /timestamp: the timestamp must be seconds since 1970 within the years 0001 to 9999, e.g. 1769508000.123, not " 1"
            line 9 invalid_timestamp at /timestamp: the timestamp must be seconds since 1970 within the years 0001 to 9999, e.g. 1769508000.123, not ""
            line 10 invalid_timestamp at /timestamp: the timestamp must be seconds since 1970 within the years 0001 to 9999, e.g. 1769508000.123, not []
            line 11 invalid_timestamp at /timestamp: the timestamp must be seconds since 1970 within the years 0001 to 9999, e.g. 1769508000.123, not 1e400
            1 * 2026-01-27T10:00:00Z
            2 * 2026-01-27T10:00:00.123456Z
            3 * 2026-01-27T10:00:00Z
            4 * 2026-01-27T10:00:00.500Z
            5 * 1969-12-31T23:59:59.999999Z
            6 * 1970-01-01T00:00:00Z
        "#]],
    );
}

#[test]
fn an_event_without_all_parts_of_an_id_has_none() {
    let preset = Preset { event_id: vec!["/a".into(), "/b".into()], ..Preset::default() };
    let long = format!("{{\"type\":\"t\",\"a\":\"{}\"}}\n", "é".repeat(129));
    let lines = "{\"type\":\"t\",\"a\":\"1\",\"b\":2}\n{\"type\":\"t\",\"a\":\"1\"}\n{\"type\":\"t\",\"a\":\"\",\"b\":2}\n\
         {\"type\":\"t\",\"a\":null,\"b\":2}\n{\"type\":\"t\",\"a\":\"1\",\"b\":{\"x\":1}}\n{\"type\":\"t\",\"a\":1.0,\"b\":1}\n{\"type\":\"t\"}\n";
    check(
        &preset,
        &[],
        &format!("{lines}{long}"),
        expect![[r#"
        line 4 invalid_event_id at /b: the event id must be text or an integer of at most 256 bytes, not {"x":1}
        line 5 invalid_event_id at /a: the event id must be text or an integer of at most 256 bytes, not 1.0
        line 7 invalid_event_id at /a: the event id must be text or an integer of at most 256 bytes, not "ééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé... (260 bytes)
        line 0 has an id
        1 * 1970-01-01T00:00:00Z
        2 * 1970-01-01T00:00:00Z
        3 * 1970-01-01T00:00:00Z
        4 * 1970-01-01T00:00:00Z
        5 * 1970-01-01T00:00:00Z
    "#]],
    );
}

#[test]
fn presets_of_older_logs_are_read_as_they_were_used() {
    let json = r#"{"name":"default","constant_type":null,"type_path":"/type","timestamp_path":"/timestamp"}"#;
    let old: Preset = serde_json::from_str(json).unwrap();
    assert_eq!(old, Preset { event_id: vec![], ..Preset::default() });
    for preset in shipped() {
        let logged = serde_json::to_value(preset).unwrap();
        assert_eq!(&serde_json::from_value::<Preset>(logged).unwrap(), preset);
    }
}
