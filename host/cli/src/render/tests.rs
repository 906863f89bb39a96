//! Answers as people see them.

use super::*;
use expect_test::expect;
use serde_json::json;

#[test]
fn a_report_reads_like_a_page() {
    let value = json!({
        "as_of_sequence": 12, "watermark": "2026-01-27T10:00:00Z", "age_seconds": 0.0, "complete": true,
        "summary": {"total_visitors": 160, "hot_post": "post_123"},
        "tables": {
            "posts": [{"plays": 3, "post_id": "123", "share": 0.5}, {"plays": 14, "post_id": "4", "extra": "a\nb"}],
            "none": [],
        },
        "rows_left_out": {"posts": 7},
    });
    expect![[r#"
        as of sequence 12, watermark 2026-01-27T10:00:00Z

        hot_post        post_123
        total_visitors  160

        none
        (no rows)

        posts
        post_id  extra  plays  share
        123                 3    0.5
        4        a b       14
        7 more rows; see them with --rows and --skip
    "#]]
    .assert_eq(&report(&value, Paint::PLAIN));
    expect![[r#"
        as of sequence 0, watermark -, 61.2 s old, INCOMPLETE: part of the log was lost to it
    "#]]
    .assert_eq(&report(
        &json!({"as_of_sequence": 0, "watermark": null, "age_seconds": 61.25, "complete": false}),
        Paint::PLAIN,
    ));
}

#[test]
fn any_answer_is_values_and_tables() {
    let value = json!({
        "sequence": 9, "queue": {"bytes": 0, "chunks": []}, "reason": null,
        "plugins": [{"name": "a", "digest": "0123456789abcdef".repeat(4)}],
    });
    expect![[r#"
        queue.bytes   0
        queue.chunks  -
        reason        -
        sequence      9

        plugins
        name  digest
        a     0123456789ab
    "#]]
    .assert_eq(&answer(&value, Output::Table, Paint::PLAIN));
}

#[test]
fn a_bare_list_is_a_table_without_a_name() {
    expect![[r#"
         name
         a
    "#]]
    .assert_eq(&answer(&json!([{"name": "a"}]), Output::Table, Paint::PLAIN));
    expect![[r#"
        a, b
    "#]]
    .assert_eq(&answer(&json!(["a", "b"]), Output::Table, Paint::PLAIN));
}

#[test]
fn objects_of_one_kind_stand_side_by_side() {
    let value = json!({"sequence": 1, "aggregators": {
        "b": {"lag": 0, "ledger": {"applied": 1, "refused": {"r": 2}}}, "a": {"lag": 10, "ledger": {"applied": 2}}},
        "totals": {"a": {"n": 1}, "b": {"m": 2}}});
    expect![[r#"
        sequence    1
        totals.a.n  1
        totals.b.m  2

        aggregators
                           a  b
        lag               10  0
        ledger.applied     2  1
        ledger.refused.r   -  2
    "#]]
    .assert_eq(&answer(&value, Output::Table, Paint::PLAIN));
}

#[test]
fn one_table_has_its_columns_in_the_report_s_order() {
    let value = json!({
        "as_of_sequence": 12, "watermark": null, "complete": true, "rows_left_out": 7,
        "columns": [{"name": "post_id"}, {"name": "plays"}, {"name": "actions"}],
        "rows": [{"actions": 1, "plays": 3, "post_id": "1"}],
    });
    expect![[r#"
        as of sequence 12, watermark -

        post_id  plays  actions
        1            3        1
        7 more rows; see them with --rows and --skip
    "#]]
    .assert_eq(&report_table(&value, Paint::PLAIN));
    assert_eq!(super::value(&json!({"value": "post_1"})), "post_1\n");
    assert_eq!(super::value(&json!({"value": 1.5})), "1.5\n");
}

#[test]
fn colours_mark_headings_and_what_needs_attention() {
    let value = json!({"plugins": [{"name": "a", "state": "failed"}]});
    let text = answer(&value, Output::Table, Paint(true));
    expect![[r#"
        ESC[1mpluginsESC[0m
        ESC[1mname ESC[0mESC[1m state  ESC[0m
        a    ESC[38;5;9m failed ESC[39m
    "#]]
    .assert_eq(&text.replace('\x1b', "ESC"));
}

#[test]
fn a_long_text_is_cut() {
    assert_eq!(cell(&json!("é".repeat(MAX_CELL + 1))), "é".repeat(MAX_CELL) + "…");
}

#[test]
fn json_is_one_line() {
    expect![[r#"
        {"a":[1,2]}
    "#]]
    .assert_eq(&answer(&json!({"a": [1, 2]}), Output::Json, Paint::PLAIN));
}
