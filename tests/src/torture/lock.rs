//! Two daemons on one data directory: the second refuses and says who holds it, and a lock whose holder is dead holds nobody up.

use std::process::Command;

use super::life::{Life, PATIENCE, Started};
use super::report::Report;
use super::site::{Shape, Site};
use crate::{tally, text};

/// Tries it.
pub fn run(seed: u64, report: &Report) {
    report.attempt("two daemons", || {
        let mut site = Site::new(Shape::default(), seed);
        let mut life = site.start();
        let load = site.load(&life);
        for _ in 0..3 {
            let refused = second(&site).output().expect("tally run");
            let said = text(&refused);
            assert_eq!(refused.status.code(), Some(1), "a second daemon: {said}");
            let holder = format!("is in use by process {}:", life.pid());
            assert!(said.contains(&holder), "a second daemon says who holds the directory, {holder:?}: {said}");
            report.count("second daemons refused", 1);
        }
        let verify = site.work.verify(&[]);
        assert!(
            !verify.status.success() && text(&verify).contains("in use"),
            "verify beside a daemon: {}",
            text(&verify)
        );
        assert!(life.ended().is_none(), "the first goes on");
        life.kill();
        load.stop();
        // Whoever is named in the lock now is dead; some number may even belong to another process by then.
        std::fs::write(site.data().join("tally.lock"), "1").expect("the lock file");
        let life = site.start();
        site.check(&life);
        life.stop();
        report.count("starts with the lock file of a dead daemon", 1);
        // Started at the same moment, exactly one serves.
        for _ in 0..5 {
            let mut both = [site.spawn(), Life::start(second(&site), &site.work.path("log"))];
            let started = both.each_mut().map(|life| matches!(life.wait_ready(), Started::Ready));
            assert_eq!(started.iter().filter(|is_ready| **is_ready).count(), 1, "one of two serves: {started:?}");
            let [first, other] = both;
            let (serves, mut refused) = if started[0] { (first, other) } else { (other, first) };
            assert_eq!(refused.wait(PATIENCE).code(), Some(1), "the other ended");
            serves.stop();
            report.count("races of two daemons", 1);
        }
        let life = site.start();
        report.count("events counted", site.end(life));
    });
}

/// A daemon with the same data directory, and sockets of its own.
fn second(site: &Site) -> Command {
    let mut command = tally();
    command.arg("run").arg("--data-dir").arg(site.data()).arg("--plugins-dir").arg(site.work.path("plugins"));
    command.arg("--unix").arg(site.work.path("second.sock")).arg("--config").arg(site.work.path("tally.toml"));
    command
}
