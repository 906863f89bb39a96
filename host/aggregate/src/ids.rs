//! Event ids of the recent past, so that an event that is sent again counts once. Pure: times are given by the caller.
//!
//! They are times of a clock of the ids' own: it goes on with the monotonic time of a life, and each life begins with the newest time that the
//! log has for an id. So no id is forgotten sooner because somebody set the wall clock; while no daemon runs, ids do not age.
//!
//! An id is known from the moment it is offered; it is remembered, and so bounded and aged, once the frame that holds it is durable. The log
//! has the ids of each frame, and every segment opens with those remembered by then: a restart reads one segment.

use std::collections::{HashSet, VecDeque};

/// Ids that came within so long, in microseconds, share one entry of a segment's opening.
pub const GROUP_MICROS: i64 = 1_000_000;

/// See the module. An id is a 128-bit hash of what the sender calls its event.
#[derive(Debug)]
pub struct IdWindow {
    most: usize,
    micros: i64,
    /// Those in `order`, and those offered since.
    known: HashSet<u128>,
    /// Oldest first.
    order: VecDeque<u128>,
    /// When they arrived and how many of `order` it covers, in the same order.
    groups: VecDeque<(i64, usize)>,
    /// The newest time that was given.
    newest: i64,
}

impl IdWindow {
    /// Remembers at most `most` ids, each for `micros` microseconds. With 0 ids every one is new.
    pub fn new(most: usize, micros: i64) -> Self {
        Self { most, micros, known: HashSet::new(), order: VecDeque::new(), groups: VecDeque::new(), newest: 0 }
    }

    /// False when nothing is ever remembered.
    pub fn is_on(&self) -> bool {
        self.most > 0
    }

    /// Makes `id` known. False when it was already.
    pub fn offer(&mut self, id: u128) -> bool {
        !self.is_on() || self.known.insert(id)
    }

    /// Remembers ids that arrived at `at`, which is not before the last call's, and forgets what is too old or too much.
    pub fn remember(&mut self, at: i64, ids: impl IntoIterator<Item = u128>) {
        if !self.is_on() {
            return;
        }
        self.newest = self.newest.max(at);
        let before = self.order.len();
        for id in ids {
            self.known.insert(id);
            self.order.push_back(id);
        }
        let more = self.order.len() - before;
        match self.groups.back_mut() {
            _ if more == 0 => {}
            Some((begun, count)) if at - *begun < GROUP_MICROS => *count += more,
            _ => self.groups.push_back((at, more)),
        }
        self.expire(at);
    }

    /// Remembers again what the log says arrived at `at`. An id that came once more after it was forgotten is known from then on.
    pub fn restore(&mut self, at: i64, ids: impl IntoIterator<Item = u128>) {
        self.expire(at);
        let new: Vec<u128> = ids.into_iter().filter(|id| self.offer(*id)).collect();
        self.remember(at, new);
    }

    /// Forgets what is too old at `now`, or too much.
    pub fn expire(&mut self, now: i64) {
        while let Some((at, count)) = self.groups.front_mut() {
            let old = now.saturating_sub(*at) >= self.micros.saturating_add(GROUP_MICROS);
            let much = self.order.len().saturating_sub(self.most);
            let going = if old { *count } else { much.min(*count) };
            if going == 0 {
                return;
            }
            for id in self.order.drain(..going) {
                self.known.remove(&id);
            }
            *count -= going;
            if *count == 0 {
                self.groups.pop_front();
            }
        }
    }

    /// The newest time that was remembered or restored; 0 if there was none.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// True when no id is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What is remembered, oldest first: times and their ids.
    pub fn groups(&self) -> impl Iterator<Item = (i64, impl ExactSizeIterator<Item = u128>)> {
        let mut from = 0;
        self.groups.iter().map(move |&(at, count)| {
            let ids = self.order.range(from..from + count).copied();
            from += count;
            (at, ids)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    impl IdWindow {
        fn knows(&self, id: u128) -> bool {
            self.known.contains(&id)
        }
    }

    #[test]
    fn ids_are_forgotten_by_age_and_by_number() {
        let mut window = IdWindow::new(3, 10 * SECOND);
        assert!(window.offer(1) && !window.offer(1));
        window.remember(0, [1]);
        window.remember(5 * SECOND, [2]);
        assert!(window.knows(1));
        window.remember(11 * SECOND, [3]);
        assert!(!window.knows(1) && window.knows(2), "older than the window and its grain");
        window.remember(12 * SECOND, [4, 5]);
        assert!(!window.knows(2) && window.knows(3) && window.order.len() == 3);
    }

    #[test]
    fn ids_that_arrive_soon_after_each_other_stand_in_one_group() {
        let mut window = IdWindow::new(10, 100 * SECOND);
        let begin = 7 * SECOND;
        for (later, id) in
            [(0, 1), (GROUP_MICROS - 1, 2), (GROUP_MICROS, 3), (2 * GROUP_MICROS - 1, 4), (2 * GROUP_MICROS, 5)]
        {
            window.remember(begin + later, [id]);
        }
        let groups: Vec<(i64, Vec<u128>)> = window.groups().map(|(at, ids)| (at - begin, ids.collect())).collect();
        assert_eq!(groups, [(0, vec![1, 2]), (GROUP_MICROS, vec![3, 4]), (2 * GROUP_MICROS, vec![5])]);
    }

    #[test]
    fn switched_off_it_takes_everything_for_new() {
        let mut window = IdWindow::new(0, SECOND);
        assert!(window.offer(1) && window.offer(1));
        window.remember(0, [1]);
        assert!(window.order.is_empty() && !window.knows(1));
    }

    #[test]
    fn an_id_that_came_again_after_its_time_is_known_after_a_restart_too() {
        let frames = [(0, vec![1]), (12 * SECOND, vec![1, 2])];
        let mut window = IdWindow::new(10, 10 * SECOND);
        let mut again = IdWindow::new(10, 10 * SECOND);
        for (at, ids) in frames {
            window.expire(at);
            assert!(ids.iter().all(|id| window.offer(*id)));
            window.remember(at, ids.clone());
            again.restore(at, ids);
        }
        assert!(window.knows(1) && again.knows(1) && again.knows(2));
        assert_eq!(again.order, window.order);
    }

    proptest! {
        /// Whatever happened, what a segment's opening holds restores the same memory.
        #[test]
        fn its_groups_restore_it(steps in proptest::collection::vec((0..4 * SECOND, proptest::collection::vec(0u128..50, 0..6)), 0..60)) {
            let mut window = IdWindow::new(20, 8 * SECOND);
            let mut now = 0;
            for (later, ids) in steps {
                now += later;
                let new: Vec<u128> = ids.into_iter().filter(|id| window.offer(*id)).collect();
                window.remember(now, new);
                prop_assert!(window.order.len() <= 20);
            }
            let mut again = IdWindow::new(20, 8 * SECOND);
            for (at, ids) in window.groups() {
                again.restore(at, ids);
            }
            prop_assert_eq!(&again.order, &window.order);
            prop_assert_eq!(&again.groups, &window.groups);
            for id in 0..50 {
                prop_assert_eq!(again.knows(id), window.knows(id));
            }
        }
    }
}
