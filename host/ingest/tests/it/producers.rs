//! The registry: fencing, resuming, forgetting.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tally_ingest::{AdmitError, Lease, Producers, Superseded};

/// What the future says at once, if anything.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn known(producers: &Producers) -> Vec<(String, u64)> {
    let snapshot = producers.snapshot().into_iter();
    snapshot.map(|(id, lines)| (id.to_string(), lines)).collect()
}

/// Admits and makes durable.
fn send(producers: &Arc<Producers>, id: &str, lines: u32) {
    let lease = producers.open(id);
    let mut total = 0;
    lease
        .admit(lines, |admitted| {
            total = admitted;
            true
        })
        .expect("admitted");
    drop(lease);
    producers.durable(id, total);
}

#[test]
fn a_new_producer_resumes_at_zero_and_a_known_one_where_it_was() {
    let producers = Producers::new(10);
    assert_eq!(now(producers.open("a").granted()), Some(Ok(0)));
    assert!(producers.is_empty(), "a name that sent nothing is not remembered");
    send(&producers, "a", 5);
    send(&producers, "a", 2);
    assert_eq!(now(producers.open("a").granted()), Some(Ok(7)));
    assert_eq!(known(&producers), [("a".into(), 7)]);
}

#[test]
fn the_newer_connection_fences_the_older_and_waits_for_what_it_admitted() {
    let producers = Producers::new(10);
    let older = producers.open("a");
    older.admit(3, |total| total == 3).expect("admitted");
    let newer = producers.open("a");
    assert_eq!(now(older.superseded()), Some(()));
    assert_eq!(older.admit(1, |_| panic!("not enqueued")), Err(AdmitError::Superseded));
    assert_eq!(now(newer.granted()), None, "three lines are not durable yet");
    producers.durable("a", 2);
    assert_eq!(now(newer.granted()), None, "one is not");
    producers.durable("a", 3);
    assert_eq!(now(newer.granted()), Some(Ok(3)));
    drop(older);
    newer.admit(4, |total| total == 7).expect("the older one's end changes nothing");
    assert_eq!(now(newer.superseded()), None);
}

#[test]
fn the_newest_of_several_waiting_wins() {
    let producers = Producers::new(10);
    producers.open("a").admit(3, |_| true).expect("admitted");
    let [second, third] = [producers.open("a"), producers.open("a")];
    assert_eq!(now(second.granted()), Some(Err(Superseded)));
    producers.durable("a", 3);
    assert_eq!(now(third.granted()), Some(Ok(3)));
}

#[test]
fn what_the_queue_refuses_is_not_counted() {
    let producers = Producers::new(10);
    let lease = producers.open("a");
    assert_eq!(lease.admit(3, |_| false), Err(AdmitError::Closed));
    lease.admit(2, |total| total == 2).expect("admitted");
}

#[test]
fn the_least_recently_used_is_forgotten() {
    let producers = Producers::new(2);
    send(&producers, "a", 1);
    send(&producers, "b", 2);
    drop(producers.open("a"));
    send(&producers, "c", 3);
    assert_eq!(known(&producers), [("a".into(), 1), ("c".into(), 3)]);
    assert_eq!(now(producers.open("b").granted()), Some(Ok(0)));
}

#[test]
fn names_that_send_nothing_push_nobody_out() {
    let producers = Producers::new(2);
    send(&producers, "a", 1);
    send(&producers, "b", 2);
    let curious: Vec<Lease> = (0..100).map(|n| producers.open(&format!("x{n}"))).collect();
    drop(curious);
    assert_eq!(known(&producers), [("a".into(), 1), ("b".into(), 2)]);
}

#[test]
fn producers_in_use_are_never_forgotten() {
    let producers = Producers::new(2);
    let connected = producers.open("connected");
    connected.admit(1, |_| true).expect("admitted");
    producers.durable("connected", 1);
    producers.open("undecided").admit(1, |_| true).expect("admitted");
    let third = producers.open("third");
    assert_eq!(third.admit(1, |_| panic!("not enqueued")), Err(AdmitError::TooManyProducers));
    producers.durable("undecided", 1);
    third.admit(1, |_| true).expect("there is room again");
    assert_eq!(known(&producers), [("connected".into(), 1)], "nothing of the third is durable");
}

#[test]
fn restoring_keeps_the_order_the_last_count_and_the_bound() {
    let producers = Producers::new(3);
    producers.restore([("a", 1), ("b", 2), ("c", 3), ("a", 4), ("d", 5)]);
    let expected = [("c".into(), 3), ("a".into(), 4), ("d".into(), 5)];
    assert_eq!(known(&producers), expected);
    let again = Producers::new(3);
    again.restore(producers.snapshot());
    assert_eq!(known(&again), expected);
}

#[test]
#[should_panic(expected = "5 lines cannot be durable after 0 of 3 admitted")]
fn more_than_was_admitted_cannot_be_durable() {
    let producers = Producers::new(3);
    producers.open("a").admit(3, |_| true).expect("admitted");
    producers.durable("a", 5);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open(usize),
    Admit(usize, u32),
    Close(usize),
    Decide(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0usize..4;
    prop_oneof![
        2 => id.clone().prop_map(Step::Open),
        4 => (0usize..20, 1u32..5).prop_map(|(lease, lines)| Step::Admit(lease, lines)),
        1 => (0usize..20).prop_map(Step::Close),
        3 => (1usize..4).prop_map(Step::Decide),
    ]
}

proptest! {
    /// However connections of few producers overlap: what is enqueued counts up without gap or overlap, a connection that was granted a count
    /// continues exactly there, and nothing of an older one comes after.
    #[test]
    fn lines_are_enqueued_once_and_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let producers = Producers::new(10);
        let mut leases: Vec<(usize, Lease)> = Vec::new();
        let mut queue: VecDeque<(usize, u64)> = VecDeque::new();
        let mut admitted = [0u64; 4];
        let mut newest: [Option<usize>; 4] = [None; 4];
        let mut opened = 0;
        let mut numbers = Vec::new();
        for step in steps {
            match step {
                Step::Open(id) => {
                    leases.push((id, producers.open(&id.to_string())));
                    opened += 1;
                    numbers.push(opened);
                    newest[id] = Some(opened);
                }
                Step::Admit(at, lines) if at < leases.len() => {
                    let (id, lease) = &leases[at];
                    let granted = now(lease.granted());
                    let result = match granted {
                        Some(Ok(resume)) => {
                            prop_assert!(resume <= admitted[*id]);
                            lease.admit(lines, |total| { queue.push_back((*id, total)); true })
                        }
                        Some(Err(Superseded)) => lease.admit(lines, |_| panic!("superseded")),
                        None => continue,
                    };
                    prop_assert_eq!(result.is_ok(), newest[*id] == Some(numbers[at]));
                    if result.is_ok() {
                        admitted[*id] += u64::from(lines);
                        prop_assert_eq!(queue.back(), Some(&(*id, admitted[*id])));
                    }
                }
                Step::Close(at) if at < leases.len() => {
                    leases.remove(at);
                    numbers.remove(at);
                }
                Step::Decide(count) => {
                    for (id, total) in queue.drain(..count.min(queue.len())) {
                        producers.durable(&id.to_string(), total);
                    }
                }
                Step::Admit(..) | Step::Close(_) => {}
            }
        }
        for (id, total) in queue.drain(..) {
            producers.durable(&id.to_string(), total);
        }
        drop(leases);
        for (id, total) in admitted.iter().enumerate() {
            prop_assert_eq!(now(producers.open(&id.to_string()).granted()), Some(Ok(*total)));
        }
    }
}
