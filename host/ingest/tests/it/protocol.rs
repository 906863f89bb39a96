//! Handshakes and answers, as tables.

use expect_test::{Expect, expect};
use tally_ingest::protocol::{Handshake, Hello, Progress, error_line, hello, is_producer, write_resume};

fn check(lines: &[&str], expected: Expect) {
    let said = |line: &&str| match hello(line.as_bytes()) {
        Hello::Data => format!("{line}\n  data\n"),
        Hello::Handshake(said) => format!("{line}\n  {said:?}\n"),
        Hello::Bad(why) => format!("{line}\n  bad: {why}\n"),
    };
    expected.assert_eq(&lines.iter().map(said).collect::<String>());
}

#[test]
fn handshakes() {
    check(
        &[
            r#"{"tally":"ack"}"#,
            " { \"tally\" : \"ack\" }",
            r#"{"tally":"ack","producer":"web-1 (blue)"}"#,
            r#"{"producer":"web-1","tally":"ack"}"#,
            r#"{"t\u0061lly":"ack"}"#,
            r#"{"tally":"data","encoding":"msgpack","token":"s3cret"}"#,
        ],
        expect![[r#"
            {"tally":"ack"}
              Handshake { answers: true, producer: None, encoding: Json, token: None }
             { "tally" : "ack" }
              Handshake { answers: true, producer: None, encoding: Json, token: None }
            {"tally":"ack","producer":"web-1 (blue)"}
              Handshake { answers: true, producer: Some("web-1 (blue)"), encoding: Json, token: None }
            {"producer":"web-1","tally":"ack"}
              Handshake { answers: true, producer: Some("web-1"), encoding: Json, token: None }
            {"t\u0061lly":"ack"}
              Handshake { answers: true, producer: None, encoding: Json, token: None }
            {"tally":"data","encoding":"msgpack","token":"s3cret"}
              Handshake { answers: false, producer: None, encoding: MessagePack, token: Some(Secret) }
        "#]],
    );
}

#[test]
fn bad_handshakes() {
    check(
        &[
            r#"{"tally":"nack"}"#,
            r#"{"tally":null}"#,
            r#"{"tally":{"ack":[1,2,3]}}"#,
            r#"{"tally":"ack","producer":7}"#,
            r#"{"tally":"ack","producer":""}"#,
            r#"{"tally":"ack","producer":"a\nb"}"#,
            r#"{"tally":"ack","producr":"a"}"#,
            r#"{"tally":"ack","tally":"ack"}"#,
            r#"{"type":"action","tally":"ack"}"#,
            r#"{ "tally":"ack""#,
            r#"{"tally":"ack"} trailing"#,
            r#"{"tally":"ack","encoding":"xml"}"#,
            r#"{"tally":"data","producer":"p"}"#,
        ],
        expect![[r#"
            {"tally":"nack"}
              bad: "tally" must be "ack" (answers) or "data" (none), not "nack"
            {"tally":null}
              bad: "tally" must be "ack" (answers) or "data" (none), not null
            {"tally":{"ack":[1,2,3]}}
              bad: "tally" must be "ack" (answers) or "data" (none), not {"ack":[1,2,3]}
            {"tally":"ack","producer":7}
              bad: "producer" must be a string of 1 to 128 printable ASCII characters
            {"tally":"ack","producer":""}
              bad: "producer" must be a string of 1 to 128 printable ASCII characters
            {"tally":"ack","producer":"a\nb"}
              bad: "producer" must be a string of 1 to 128 printable ASCII characters
            {"tally":"ack","producr":"a"}
              bad: unknown key "producr"; a handshake has "tally" and, as wanted, "producer", "encoding", "token"
            {"tally":"ack","tally":"ack"}
              bad: a key of the handshake is repeated
            {"type":"action","tally":"ack"}
              bad: unknown key "type"; a handshake has "tally" and, as wanted, "producer", "encoding", "token"
            { "tally":"ack"
              bad: the first line begins a handshake but is not valid JSON: EOF while parsing an object at line 1 column 15
            {"tally":"ack"} trailing
              bad: the first line begins a handshake but is not valid JSON: trailing characters at line 1 column 17
            {"tally":"ack","encoding":"xml"}
              bad: "encoding" must be "json" or "msgpack", not "xml"
            {"tally":"data","producer":"p"}
              bad: "producer" goes with "tally":"ack": without answers nobody can resume
        "#]],
    );
}

#[test]
fn everything_else_is_data() {
    check(
        &[
            "",
            "{",
            "[{\"tally\":\"ack\"}]",
            "\"tally\"",
            r#"{"type":"action","properties":{"tally":"ack"}}"#,
            r#"{"type":"tally"}"#,
            r#"{"type":"action",}"#,
        ],
        expect![[r#"

              data
            {
              data
            [{"tally":"ack"}]
              data
            "tally"
              data
            {"type":"action","properties":{"tally":"ack"}}
              data
            {"type":"tally"}
              data
            {"type":"action",}
              data
        "#]],
    );
}

#[test]
fn a_carriage_return_belongs_to_the_line_end() {
    assert_eq!(hello(b"{\"tally\":\"ack\"}\r"), Hello::Handshake(Handshake { answers: true, ..Handshake::default() }));
}

#[test]
fn a_deep_or_binary_first_line_is_data() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    assert_eq!(hello(deep.as_bytes()), Hello::Data);
    assert_eq!(hello(b"{\"\xff\":1}"), Hello::Data);
}

#[test]
fn producer_names() {
    assert!(is_producer("a"));
    assert!(is_producer(&"~".repeat(128)));
    for name in ["", &"a".repeat(129), "tab\t", "nul\0", "ä", "del\x7f"] {
        assert!(!is_producer(name), "{name:?}");
    }
}

#[test]
fn answers() {
    let mut text = String::new();
    write_resume(17, &mut text);
    let mut progress = Progress { durable: 10, sequence: 8, ..Progress::default() };
    progress.write(&mut text);
    progress.rejected = 2;
    progress.rejects = vec![(3, "invalid_json"), (9, "missing_type")];
    progress.write(&mut text);
    progress.left_out = 5;
    progress.write(&mut text);
    progress.duplicates = 4;
    progress.write(&mut text);
    text.push_str(&error_line("superseded", "a \"newer\" connection"));
    expect![[r#"
        {"resume":17}
        {"durable":10,"sequence":8,"rejected":0,"rejects":[]}
        {"durable":10,"sequence":8,"rejected":2,"rejects":[[3,"invalid_json"],[9,"missing_type"]]}
        {"durable":10,"sequence":8,"rejected":2,"rejects":[[3,"invalid_json"],[9,"missing_type"]],"rejects_left_out":5}
        {"durable":10,"sequence":8,"rejected":2,"rejects":[[3,"invalid_json"],[9,"missing_type"]],"rejects_left_out":5,"duplicates":4}
        {"error":"superseded","message":"a \"newer\" connection"}
    "#]]
    .assert_eq(&text);
}
