//! SIGTERM under full load, once and twice: a clean end leaves everything flushed, a hurried one loses nothing acknowledged.

use super::random::Random;
use super::report::Report;
use super::site::{Shape, Site};

/// So many rounds of both.
pub fn run(rounds: u64, seed: u64, report: &Report) {
    report.attempt(&format!("signals (seed {seed})"), || {
        let mut random = Random::new(seed);
        let mut site = Site::new(Shape::default(), seed);
        for round in 0..rounds {
            let mut life = site.start();
            let load = site.load(&life);
            std::thread::sleep(random.millis(30, 300));
            life.signal("TERM");
            let is_twice = round % 2 == 1;
            if is_twice {
                std::thread::sleep(random.millis(0, 6));
                life.signal_if_there("TERM");
            }
            let code = life.wait(super::life::PATIENCE).code();
            load.stop();
            match (is_twice, code) {
                (_, Some(0)) => {
                    report.count("clean ends after SIGTERM under load", 1);
                    site.records.check(&site.data(), true);
                    let flushed = site.records.last_sequence();
                    let again = site.start();
                    assert_eq!(flushed, again.sequence(), "after a clean end everything is in a record");
                    site.check(&again);
                    again.stop();
                }
                (true, Some(1)) => {
                    report.count("ends at once after a second SIGTERM", 1);
                    let again = site.start();
                    site.check(&again);
                    again.stop();
                }
                _ => panic!("SIGTERM {} ended it with {code:?}: {}", 1 + u64::from(is_twice), site.tail_of_log()),
            }
        }
        let life = site.start();
        report.count("events counted", site.end(life));
    });
    report.must_have_reached(&["clean ends after SIGTERM under load", "ends at once after a second SIGTERM"]);
}
