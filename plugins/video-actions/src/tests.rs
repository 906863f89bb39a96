//! What the aggregator counts, who leads, what is refused, and the laws.

use super::*;
use proptest::prelude::*;
use tally_sdk::testing::{Harness, check_laws};

fn event(user: &str, post: &str, action: &str) -> String {
    format!(r#"{{"type":"action","user_id":"{user}","resource_type":"posts:{post}","action":"{action}"}}"#)
}

fn harness(events: &[(&str, &str, &str)]) -> Harness<VideoActions> {
    let mut harness = Harness::new("{}");
    let lines: Vec<String> = events.iter().map(|(user, post, action)| event(user, post, action)).collect();
    assert_eq!(harness.apply(&lines), []);
    harness
}

#[test]
fn counts_per_post_and_in_all() {
    let harness = harness(&[
        ("a", "1", "view"),
        ("a", "1", "play"),
        ("b", "2", "view"),
        ("b", "2", "carousel_left"),
        ("c", "2", "carousel_right"),
        ("c", "2", "unmute"),
    ]);
    assert_eq!(harness.summary("total_events"), "6");
    assert_eq!(harness.summary("total_visitors"), "3");
    assert_eq!(harness.summary("total_views"), "2");
    assert_eq!(harness.summary("hot_post"), "post_1");
    let (posts, left_out) = harness.table("posts", 0, 0);
    assert_eq!(left_out, 0);
    assert_eq!(posts[0], ["1", "1", "1", "0", "0", "0", "0", "3"]);
    assert_eq!(posts[1], ["2", "1", "0", "0", "1", "1", "1", "2"]);
    assert_eq!(harness.table("posts", 1, 1).0, [posts[1].clone()]);
    assert_eq!(
        harness.table("actions", 0, 0),
        (
            vec![
                vec!["view".into(), "2".into()],
                vec!["play".into(), "1".into()],
                vec!["pause".into(), "0".into()],
                vec!["unmute".into(), "1".into()],
                vec!["carousel_left".into(), "1".into()],
                vec!["carousel_right".into(), "1".into()]
            ],
            0
        )
    );
    // More rows than were asked for would break the contract.
    let (actions, left_out) = harness.table("actions", 1, 2);
    assert_eq!((actions, left_out), (vec![vec!["play".into(), "1".into()], vec!["pause".into(), "0".into()]], 3));
}

#[test]
fn counts_are_saved_in_the_order_of_actions() {
    let times = |(action, times)| std::iter::repeat_n(("a", "7", ACTIONS[action]), times);
    let saved = harness(&(0..6).zip(1..).flat_map(times).collect::<Vec<_>>()).save();
    let counts: Vec<u8> = (1..=6u64).flat_map(u64::to_le_bytes).collect();
    let post = [1u32.to_le_bytes().as_slice(), &1u32.to_le_bytes(), b"7", &counts].concat();
    assert_eq!(saved[..48], counts);
    assert_eq!(saved[saved.len() - post.len()..], post);
}

#[test]
fn nothing_seen_reports_every_column() {
    let harness = Harness::<VideoActions>::new("{}");
    assert_eq!(harness.summary("total_events"), "0");
    assert_eq!(harness.summary("hot_post"), "-");
    assert_eq!(harness.table("posts", 0, 10).0.len(), 0);
}

#[test]
fn a_pause_on_the_leader_makes_way() {
    let mut harness = harness(&[("a", "1", "play"), ("a", "2", "view"), ("a", "2", "view")]);
    assert_eq!(harness.summary("hot_post"), "post_2");
    harness.apply(&[event("a", "2", "pause")]);
    assert_eq!(harness.summary("hot_post"), "post_1");
    harness.apply(&[event("a", "1", "pause"), event("a", "1", "pause")]);
    assert_eq!(harness.summary("hot_post"), "post_2");
}

#[test]
fn only_pauses_still_have_a_leader_and_ties_go_to_views_then_the_smaller_id() {
    assert_eq!(harness(&[("a", "9", "pause"), ("a", "8", "pause"), ("a", "8", "pause")]).summary("hot_post"), "post_9");
    assert_eq!(harness(&[("a", "5", "play"), ("a", "7", "view"), ("a", "7", "view")]).summary("hot_post"), "post_7");
    assert_eq!(harness(&[("a", "9", "view"), ("a", "10", "view")]).summary("hot_post"), "post_10");
}

#[test]
fn weights_are_settings_and_part_of_the_state_version() {
    let settings = r#"{"weights":{"pause":5}}"#;
    let mut harness = Harness::<VideoActions>::new(settings);
    harness.apply(&[event("a", "1", "play"), event("a", "2", "pause")]);
    assert_eq!(harness.summary("hot_post"), "post_2");
    let version = |settings: &str| VideoActions::state_version(&serde_json::from_str(settings).unwrap());
    assert_ne!(version(settings), version("{}"));
    assert_eq!(version(r#"{"weights":{"play":2}}"#), version("{}"));
}

#[test]
fn what_is_no_action_on_a_post_is_refused_and_changes_nothing() {
    let mut harness = harness(&[("a", "1", "view")]);
    let before = harness.save();
    let refused = harness.apply(&[
        event("b", "1", "rewind"),
        event("b", "", "view"),
        r#"{"type":"action","user_id":"b","resource_type":"users:1","action":"view"}"#.to_owned(),
    ]);
    let reasons: Vec<&str> = refused.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(reasons, ["unknown_action", "resource", "resource"]);
    assert_eq!(harness.save(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_laws_hold(events in prop::collection::vec((0..9u8, 0..7u8, 0..8usize), 0..30)) {
        let actions = ["view", "play", "pause", "unmute", "carousel_left", "carousel_right", "rewind", "view"];
        let lines: Vec<String> =
            events.iter().map(|(u, p, a)| event(&format!("u{u}"), &format!("{p}"), actions[*a])).collect();
        check_laws::<VideoActions>("{}", &lines);
    }

    #[test]
    fn the_hot_post_is_the_best_by_a_scan(events in prop::collection::vec((0..6u8, 0..6usize), 1..60)) {
        let mut harness = Harness::<VideoActions>::new("{}");
        for (post, action) in &events {
            harness.apply(&[event("u", &post.to_string(), ACTIONS[*action])]);
            let (posts, _) = harness.table("posts", 0, 0);
            let best = posts.iter().min_by_key(|row| {
                (-row[7].parse::<i64>().unwrap(), -row[1].parse::<i64>().unwrap(), row[0].clone())
            });
            prop_assert_eq!(harness.summary("hot_post"), format!("post_{}", best.unwrap()[0]));
        }
    }
}
