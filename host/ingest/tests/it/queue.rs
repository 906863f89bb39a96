//! The queue: order, runs of one preset, the budget, closing.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use expect_test::expect;
use tally_ingest::queue::{CHUNK_OVERHEAD, MUCH};
use tally_ingest::{Body, Chunk, Closed, Popped, Queue, ReserveError, Stream};
use tokio::time::timeout;

async fn chunk(queue: &Queue<&'static str>, text: &str, preset: usize) -> Chunk {
    let stream = Stream::plain("test".into(), "#1".into());
    let permit = queue.reserve(text.len()).await.expect("open");
    Chunk::new(Body::Lines(text.into()), 1, preset, stream, permit)
}

fn text(popped: Popped<&'static str>) -> String {
    let body = |chunk: &Chunk| match &chunk.body {
        Body::Lines(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Body::Refused { .. } => "too long".into(),
    };
    match popped {
        Popped::Chunks(chunks) => {
            let bodies: Vec<String> = chunks.iter().map(body).collect();
            format!("preset {}: {}", chunks[0].preset, bodies.join(" "))
        }
        Popped::Control(token) => format!("control {token}"),
        Popped::Closed => "closed".into(),
    }
}

#[tokio::test]
async fn order_runs_and_control_tokens() {
    let queue = Queue::new(1000);
    for (body, preset) in [("a", 0), ("b", 0), ("c", 1), ("d", 1)] {
        queue.push(chunk(&queue, body, preset).await);
    }
    queue.push_control("reload");
    for body in ["eeee", "ffff", "ggggggggggggg", "h"] {
        queue.push(chunk(&queue, body, 1).await);
    }
    assert_eq!(queue.depth().chunks, 8);
    queue.close();
    let mut popped = Vec::new();
    while popped.last().is_none_or(|last: &String| last != "closed") {
        popped.push(text(queue.pop(8)));
    }
    expect![[r#"
        preset 0: a b
        preset 1: c d
        control reload
        preset 1: eeee ffff
        preset 1: ggggggggggggg
        preset 1: h
        closed"#]]
    .assert_eq(&popped.join("\n"));
    assert_eq!(queue.depth().chunks, 0);
}

#[tokio::test]
async fn a_reservation_waits_until_a_chunk_is_dropped() {
    let queue = Queue::new(10);
    queue.push(chunk(&queue, "12345678", 0).await);
    let mut waiting = std::pin::pin!(queue.reserve(3));
    assert!(queue.would_wait(3));
    assert!(!queue.would_wait(2));
    let waits = |result: Result<_, _>| assert!(result.is_err(), "it waits");
    waits(timeout(Duration::from_millis(20), &mut waiting).await);

    let popped = queue.pop(100);
    assert_eq!((queue.depth().bytes, queue.depth().chunks), (8 + 2, 0), "held until dropped");
    waits(timeout(Duration::from_millis(20), &mut waiting).await);

    drop(popped);
    let permit = waiting.await.expect("there is room");
    assert_eq!(permit.bytes(), 3);
    assert_eq!(queue.depth().bytes, 3);
}

#[tokio::test]
async fn a_chunk_larger_than_the_budget_fits_when_the_queue_is_empty() {
    let queue: Arc<Queue<()>> = Queue::new(10);
    let all = queue.reserve(1_000_000).await.expect("open");
    assert_eq!((all.bytes(), queue.depth().bytes), (10, 10));
}

#[test]
fn a_reservation_that_may_not_wait_fails_instead() {
    let queue: Arc<Queue<()>> = Queue::new(10);
    let most = queue.try_reserve(8).expect("there is room");
    assert_eq!(queue.try_reserve(3).map(|permit| permit.bytes()), Err(ReserveError::Full));
    let rest = queue.try_reserve(2).expect("there is room");
    drop((most, rest));
    let all = queue.try_reserve(1_000_000).expect("cut down to the budget");
    assert_eq!(all.bytes(), 10);
    queue.close();
    assert_eq!(queue.try_reserve(0).map(|permit| permit.bytes()), Err(ReserveError::Closed));
}

#[tokio::test]
async fn closing_refuses_new_and_keeps_what_is_queued() {
    let queue = Queue::new(10);
    queue.push(chunk(&queue, "1234", 0).await);
    let late = chunk(&queue, "5678", 0).await;
    let mut waiting = std::pin::pin!(queue.reserve(10));
    let early = timeout(Duration::from_millis(20), &mut waiting).await;
    assert!(early.is_err(), "it waits");
    queue.close();
    let waited = timeout(Duration::from_secs(10), waiting).await.expect("it ends");
    assert_eq!(waited.map(|permit| permit.bytes()), Err(Closed));
    assert!(!queue.push(late));
    assert!(!queue.push_control("late"));
    assert_eq!(text(queue.pop(100)), "preset 0: 1234");
    assert_eq!(text(queue.pop(100)), "closed");
}

#[tokio::test]
async fn little_goes_to_one_and_much_to_others() {
    let queue = Queue::new(4 * MUCH);
    let taken = |popped: Result<Option<(u64, Popped<_>)>, _>| {
        popped.expect("open").map(|(number, popped)| (number, text(popped).len()))
    };
    queue.push(chunk(&queue, "little", 0).await);
    assert_eq!(taken(queue.pop_of_much(MUCH)), None);
    assert!(queue.pop_of_little(2, MUCH).is_none(), "somebody else has to come first");
    assert_eq!(queue.pop_of_little(1, MUCH).map(text).as_deref(), Some("preset 0: little"));
    queue.push_control("a token");
    assert_eq!(queue.pop_of_little(2, MUCH).map(text).as_deref(), Some("control a token"));
    assert!(queue.pop_of_little(3, MUCH).is_none(), "nothing is there");

    queue.push_control("a token");
    queue.push(chunk(&queue, &"x".repeat(MUCH - 1), 0).await);
    assert_eq!(taken(queue.pop_of_much(MUCH)), None, "it lacks a byte");
    queue.push(chunk(&queue, "x", 0).await);
    queue.push(chunk(&queue, "xxxxxxxxxx", 0).await);
    assert!(queue.pop_of_little(3, MUCH).is_none(), "there is much");
    assert_eq!(taken(queue.pop_of_much(MUCH)), Some((3, "control a token".len())));
    assert_eq!(taken(queue.pop_of_much(MUCH)), Some((4, "preset 0:  ".len() + MUCH)));
    assert_eq!(taken(queue.pop_of_much(MUCH)), None, "the rest is little");
    assert!(!queue.is_drained());
    queue.close();
    queue.wait_for_much();
    assert_eq!(queue.pop_of_much(MUCH).expect_err("only little is left"), Closed);
    assert_eq!(queue.pop_of_little(5, MUCH).map(text).as_deref(), Some("preset 0: xxxxxxxxxx"));
    assert!(queue.is_drained());
}

#[test]
fn who_waits_is_woken() {
    let forever = Duration::from_secs(3600);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let queue = Queue::new(4 * MUCH);
    let wait_for_little = || {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.wait_for_little(1, forever))
    };
    let waiting = wait_for_little();
    queue.ring();
    waiting.join().expect("it was rung");
    let waiting = wait_for_little();
    let much = thread::spawn({
        let queue = Arc::clone(&queue);
        move || {
            queue.wait_for_much();
            while queue.pop_of_much(2 * MUCH).is_ok() {
                queue.wait_for_much();
            }
        }
    });
    queue.push(runtime.block_on(chunk(&queue, "little", 0)));
    waiting.join().expect("there is little");
    queue.push(runtime.block_on(chunk(&queue, &"x".repeat(MUCH), 0)));
    while queue.depth().chunks > 0 {
        thread::yield_now();
    }
    queue.close();
    much.join().expect("there was much, and then it was closed");
    queue.wait_for_little(1, Duration::ZERO);
}

#[test]
fn several_threads_pop_everything_once_and_can_put_it_in_order() {
    const CHUNKS: usize = 2000;
    // Of so small a queue, a quarter is much.
    let queue: Arc<Queue<usize>> = Queue::new(20 * CHUNK_OVERHEAD);
    let numbers = |popped| match popped {
        Popped::Chunks(chunks) => chunks.iter().map(|chunk: &Chunk| chunk.first_line as usize).collect(),
        Popped::Control(token) => vec![token],
        Popped::Closed => vec![],
    };
    let poppers: Vec<_> = (0..3)
        .map(|_| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut mine = Vec::new();
                while let Ok(popped) = queue.pop_of_much(300) {
                    match popped {
                        Some((number, popped)) => mine.push((number, numbers(popped))),
                        None => queue.wait_for_much(),
                    }
                }
                mine
            })
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let stream = Stream::plain("test".into(), "#1".into());
        for number in 0..CHUNKS {
            if number % 10 == 0 {
                queue.push_control(number);
                continue;
            }
            let permit = queue.reserve(CHUNK_OVERHEAD).await.expect("open");
            let body = Body::Lines(vec![b'\n'; 100]);
            let mut chunk = Chunk::new(body, 1, 0, Arc::clone(&stream), permit);
            chunk.first_line = number as u64;
            assert!(queue.push(chunk));
        }
    });
    queue.close();
    let mut popped: Vec<_> = poppers.into_iter().flat_map(|p| p.join().expect("joins")).collect();
    popped.sort_unstable();
    assert!(popped.iter().enumerate().all(|(index, (number, _))| index as u64 + 1 == *number));
    let rest = std::iter::repeat_with(|| numbers(queue.pop(300))).take_while(|numbers| !numbers.is_empty());
    let order: Vec<usize> = popped.into_iter().map(|(_, numbers)| numbers).chain(rest).flatten().collect();
    assert_eq!(order, (0..CHUNKS).collect::<Vec<_>>());
}
