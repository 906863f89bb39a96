//! Examples of every kind of difference, and laws: nothing differs from itself, either side tells the same, no changed cell is missed.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use tally_event::columns::{Column, Text};

use super::*;

fn text(entries: &[String]) -> Values {
    let mut text = Text { codes: (0..entries.len() as u32).collect(), ..Text::default() };
    for entry in entries {
        text.bytes.extend_from_slice(entry.as_bytes());
        text.ends.push(text.bytes.len() as u32);
    }
    Values::Text(text)
}

fn named(name: &str, kind: Kind, role: Role, values: Values, present: &[u8]) -> NamedColumn {
    NamedColumn { name: name.into(), kind, role, column: Column { values, present: present.into() } }
}

fn posts(posts: &[(&str, i64, i64)]) -> Table {
    let ids: Vec<String> = posts.iter().map(|post| post.0.to_owned()).collect();
    let columns = vec![
        named("post", Kind::Text, Role::Key, text(&ids), &[]),
        named("views", Kind::Integer, Role::Counter, Values::Integers(posts.iter().map(|p| p.1).collect()), &[]),
        named("revenue", Kind::Decimal(2), Role::Gauge, Values::Integers(posts.iter().map(|p| p.2).collect()), &[]),
    ];
    Table { name: "posts".into(), columns, rows_left_out: 0 }
}

fn one(name: &str, kind: Kind, values: Values, present: &[u8]) -> Table {
    let columns = vec![named("value", kind, Role::Gauge, values, present)];
    Table { name: name.into(), columns, rows_left_out: 0 }
}

fn check(running: &Table, new: &Table, expected: Expect) {
    let [diff] = &compare(std::slice::from_ref(running), std::slice::from_ref(new), 2)[..] else { panic!("one table") };
    expected.assert_eq(&serde_json::to_string(diff).unwrap());
}

#[test]
fn rows_are_matched_by_key_and_shown_up_to_a_bound() {
    let running = posts(&[("a", 1, 100), ("b", -2, 200), ("c", 3, 0), ("gone", 4, 0), ("same", 9, 9)]);
    let new = posts(&[("same", 9, 9), ("new", 7, 1), ("c", 3, 5), ("b", 4, 200), ("a", 2, 99)]);
    check(
        &running,
        &new,
        expect![[
            r#"{"table":"posts","key":["post"],"changed_columns":[],"equal_rows":1,"differing_rows":3,"only_running_rows":1,"only_new_rows":1,"differing":[{"key":{"post":"a"},"cells":[{"column":"views","running":1,"new":2,"difference":1,"relative":1.0},{"column":"revenue","running":"1.00","new":"0.99","difference":"-0.01","relative":-0.01}]},{"key":{"post":"b"},"cells":[{"column":"views","running":-2,"new":4,"difference":6,"relative":3.0}]}],"only_running":[{"post":"gone","revenue":"0.00","views":4}],"only_new":[{"post":"new","revenue":"0.01","views":7}]}"#
        ]],
    );
}

#[test]
fn columns_that_came_went_or_are_of_another_kind_are_named() {
    let running = posts(&[("a", 1, 100)]);
    let mut new = posts(&[("a", 100, 100)]);
    new.columns[1].kind = Kind::Decimal(2);
    new.columns[2].name = "income".into();
    check(
        &running,
        &new,
        expect![[
            r#"{"table":"posts","key":["post"],"changed_columns":[{"column":"views","running":"integer","new":"decimal(2)"},{"column":"revenue","running":"decimal(2)","new":null},{"column":"income","running":null,"new":"decimal(2)"}],"equal_rows":1,"differing_rows":0,"only_running_rows":0,"only_new_rows":0,"differing":[],"only_running":[],"only_new":[]}"#
        ]],
    );
}

#[test]
fn a_table_that_one_side_does_not_have_is_a_difference() {
    let table = posts(&[("a", 1, 100)]);
    let empty = posts(&[]);
    for table in [table, empty] {
        let (gone, came) =
            (compare(std::slice::from_ref(&table), &[], 5), compare(&[], std::slice::from_ref(&table), 5));
        assert_eq!(gone[0].only_running_rows, table.rows() as u64);
        assert_eq!(came[0].only_new_rows, table.rows() as u64);
        assert_eq!((gone[0].changed_columns.len(), came[0].changed_columns.len()), (3, 3));
        assert!(!gone[0].is_equal() && !came[0].is_equal());
    }
}

#[test]
fn differences_of_numbers_are_exact_and_of_anything_else_there_are_none() {
    let of = |running: &Table, new: &Table| {
        let diff = compare(std::slice::from_ref(running), std::slice::from_ref(new), 1).remove(0);
        let cell = diff.differing.first().map(|row| row.cells[0].clone());
        cell.map(|cell| (cell.difference.unwrap_or_default().to_string(), cell.relative))
    };
    let integer = |value: i64| one("t", Kind::Integer, Values::Integers(vec![value]), &[]);
    let decimal = |scale, value: i64| one("t", Kind::Decimal(scale), Values::Integers(vec![value]), &[]);
    let float = |value: f64| one("t", Kind::Float, Values::Floats(vec![value]), &[]);
    let absent = one("t", Kind::Integer, Values::Integers(vec![0]), &[0]);
    assert_eq!(of(&integer(0), &integer(7)), Some(("7".into(), None)));
    assert_eq!(of(&integer(i64::MIN), &integer(i64::MAX)), Some((format!("\"{}\"", u64::MAX), Some(2.0))));
    assert_eq!(of(&decimal(18, 1), &decimal(0, -4)), Some(("\"-4.000000000000000001\"".into(), Some(-4e18))));
    assert_eq!(of(&decimal(2, 150), &decimal(1, 15)), None);
    assert_eq!(of(&float(2.0), &float(3.0)), Some(("1.0".into(), Some(0.5))));
    assert_eq!(of(&integer(2), &float(2.5)), Some(("0.5".into(), Some(0.25))));
    assert_eq!((of(&float(f64::NAN), &float(f64::NAN)), of(&float(0.0), &float(-0.0))), (None, None));
    assert_eq!(of(&float(1.0), &float(f64::NAN)), Some(("null".into(), None)));
    assert_eq!(of(&absent, &integer(0)), Some(("null".into(), None)), "nothing is not 0");
    assert_eq!(of(&absent, &absent), None);
    let time = |micros| one("t", Kind::Timestamp, Values::Integers(vec![micros]), &[]);
    assert_eq!(of(&time(1), &time(2)), Some(("null".into(), None)));
    let json = |entry: &str| one("t", Kind::Json, text(&[entry.to_owned()]), &[]);
    assert_eq!(of(&json("{\"a\":1,\"b\":[]}"), &json("{ \"b\": [], \"a\": 1 }")), None, "members have no order");
    assert_eq!(of(&json("[1]"), &json("[2]")), Some(("null".into(), None)));
}

#[test]
fn rows_without_a_key_are_matched_by_their_place_and_rows_of_one_key_by_their_order() {
    let keyless = |values: &[i64]| one("t", Kind::Integer, Values::Integers(values.into()), &[]);
    let diff = compare(&[keyless(&[1, 2, 3])], &[keyless(&[1, 5])], 9).remove(0);
    assert_eq!((diff.equal_rows, diff.differing_rows, diff.only_running_rows), (1, 1, 1));
    assert_eq!(serde_json::to_string(&diff.differing[0].key).unwrap(), "{\"row\":1}");
    let twice = compare(&[posts(&[("a", 1, 0), ("a", 2, 0)])], &[posts(&[("a", 1, 0), ("a", 3, 0), ("a", 4, 0)])], 9);
    assert_eq!((twice[0].equal_rows, twice[0].differing_rows, twice[0].only_new_rows), (1, 1, 1));
}

/// Rows of a table of every kind, by their keys.
type Row = (i64, Option<String>, Option<i64>, Option<f64>, Option<bool>);

fn table(name: &str, rows: &[((String, bool), Row)]) -> Table {
    let present = |is: fn(&Row) -> bool| rows.iter().map(|(_, row)| u8::from(is(row))).collect::<Vec<u8>>();
    let texts: Vec<String> = rows.iter().map(|(_, row)| row.1.clone().unwrap_or_default()).collect();
    let keys: Vec<String> = rows.iter().map(|(key, _)| key.0.clone()).collect();
    let flags = Values::Booleans(rows.iter().map(|(key, _)| key.1.into()).collect());
    let columns = vec![
        named("id", Kind::Text, Role::Key, text(&keys), &[]),
        named("flag", Kind::Boolean, Role::Key, flags, &[]),
        named("n", Kind::Integer, Role::Counter, Values::Integers(rows.iter().map(|(_, r)| r.0).collect()), &[]),
        named("t", Kind::Text, Role::Gauge, text(&texts), &present(|row| row.1.is_some())),
        named(
            "d",
            Kind::Decimal(3),
            Role::Gauge,
            Values::Integers(rows.iter().map(|(_, row)| row.2.unwrap_or_default()).collect()),
            &present(|row| row.2.is_some()),
        ),
        named(
            "f",
            Kind::Float,
            Role::Gauge,
            Values::Floats(rows.iter().map(|(_, row)| row.3.unwrap_or_default()).collect()),
            &present(|row| row.3.is_some()),
        ),
        named(
            "b",
            Kind::Boolean,
            Role::Gauge,
            Values::Booleans(rows.iter().map(|(_, row)| row.4.unwrap_or_default().into()).collect()),
            &present(|row| row.4.is_some()),
        ),
    ];
    let table = Table { name: name.into(), columns, rows_left_out: 0 };
    assert_eq!(table.check(), Ok(()));
    table
}

fn rows() -> impl Strategy<Value = Vec<((String, bool), Row)>> {
    let floats = prop_oneof![-4.0..4.0, Just(f64::NAN), Just(-0.0)];
    let row = (
        any::<i64>(),
        proptest::option::of("[a-c]{0,2}"),
        proptest::option::of(any::<i64>()),
        proptest::option::of(floats),
        proptest::option::of(any::<bool>()),
    );
    proptest::collection::btree_map(("[a-d]{0,3}", any::<bool>()), row, 0..20)
        .prop_map(|rows| rows.into_iter().collect())
}

/// The same seen from the other side; parts are parts of something else then.
fn mirrored(diff: &TableDiff) -> TableDiff {
    let turned = |value: &Value| match value {
        Value::String(text) => Value::from(text.strip_prefix('-').map_or_else(|| format!("-{text}"), str::to_owned)),
        Value::Number(number) => match number.as_i64() {
            Some(number) => (-i128::from(number)).try_into().map_or_else(|_| Value::Null, |number: i64| number.into()),
            None => Value::from(-number.as_f64().expect("a number")),
        },
        _ => Value::Null,
    };
    let cell = |cell: &CellDiff| CellDiff {
        column: cell.column.clone(),
        running: cell.new.clone(),
        new: cell.running.clone(),
        difference: cell.difference.as_ref().map(turned),
        relative: None,
    };
    let row = |row: &RowDiff| RowDiff { key: row.key.clone(), cells: row.cells.iter().map(cell).collect() };
    TableDiff {
        only_running_rows: diff.only_new_rows,
        only_new_rows: diff.only_running_rows,
        differing: diff.differing.iter().map(row).collect(),
        only_running: diff.only_new.clone(),
        only_new: diff.only_running.clone(),
        ..diff.clone()
    }
}

fn without_parts(mut diff: TableDiff) -> TableDiff {
    diff.differing.iter_mut().flat_map(|row| &mut row.cells).for_each(|cell| cell.relative = None);
    // Each side has an order of its own.
    diff.differing.sort_by_key(|row| serde_json::to_string(&row.key).expect("plain data"));
    diff
}

proptest! {
    #[test]
    fn nothing_differs_from_itself(rows in rows(), turn in 0usize..20) {
        let mut turned = rows.clone();
        turned.rotate_left(if rows.is_empty() { 0 } else { turn % rows.len() });
        let diff = compare(&[table("t", &rows)], &[table("t", &turned)], 3).remove(0);
        prop_assert!(diff.is_equal(), "{diff:?}");
        prop_assert_eq!(diff.equal_rows, rows.len() as u64);
        prop_assert_eq!((diff.differing.len(), diff.only_running.len(), diff.only_new.len()), (0, 0, 0));
    }

    #[test]
    fn either_side_tells_the_same(a in rows(), b in rows()) {
        let (a, b) = (table("t", &a), table("t", &b));
        let there = compare(std::slice::from_ref(&a), std::slice::from_ref(&b), usize::MAX).remove(0);
        let back = compare(&[b], &[a], usize::MAX).remove(0);
        prop_assert_eq!(without_parts(mirrored(&there)), without_parts(back));
    }

    #[test]
    fn no_changed_cell_is_missed_and_nothing_else_is_named(
        rows in rows(),
        changes in proptest::collection::btree_set((0usize..20, 0usize..5), 0..12),
        removed in 0usize..4,
        most in 0usize..6,
    ) {
        let mut changed = rows.clone();
        let mut expected = BTreeSet::new();
        for (row, column) in changes.iter().filter(|(row, _)| *row < rows.len()) {
            let cells = &mut changed[*row].1;
            match column {
                0 => cells.0 = cells.0.wrapping_add(1),
                1 => cells.1 = Some(cells.1.clone().unwrap_or_default() + "x"),
                2 => cells.2 = if cells.2.is_some() { None } else { Some(0) },
                3 => cells.3 = if cells.3.is_some_and(f64::is_nan) { None } else { Some(cells.3.unwrap_or(0.5) + 9.0) },
                _ => cells.4 = Some(!cells.4.unwrap_or_default()),
            }
            expected.insert((rows[*row].0.clone(), ["n", "t", "d", "f", "b"][*column].to_owned()));
        }
        let gone: BTreeSet<_> = rows.iter().take(removed).map(|(key, _)| key.clone()).collect();
        changed.drain(..removed.min(rows.len()));
        changed.reverse();
        expected.retain(|(key, _)| !gone.contains(key));
        let (running, new) = ([table("t", &rows)], [table("t", &changed)]);

        let whole = compare(&running, &new, usize::MAX).remove(0);
        let key_of = |row: &RowDiff| {
            (row.key["id"].as_str().expect("text").to_owned(), row.key["flag"].as_bool().expect("a flag"))
        };
        let found: BTreeSet<_> = whole
            .differing
            .iter()
            .flat_map(|row| row.cells.iter().map(|cell| (key_of(row), cell.column.clone())))
            .collect();
        prop_assert_eq!(&found, &expected);
        let differing = expected.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len() as u64;
        prop_assert_eq!((whole.differing_rows, whole.only_running_rows), (differing, gone.len() as u64));
        prop_assert_eq!(whole.equal_rows, changed.len() as u64 - differing);

        let short = compare(&running, &new, most).remove(0);
        prop_assert_eq!(short.differing, &whole.differing[..most.min(whole.differing.len())]);
        prop_assert_eq!(short.only_running, &whole.only_running[..most.min(whole.only_running.len())]);
        prop_assert_eq!((short.equal_rows, short.differing_rows), (whole.equal_rows, whole.differing_rows));
    }
}
