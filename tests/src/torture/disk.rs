//! A full disk, for real: a small tmpfs under the data directory, filled to the last byte and freed again while producers send.
//! Nothing that was acknowledged is lost, questions are answered, and everything goes on by itself.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::life::{Life, PATIENCE};
use super::random::Random;
use super::report::Report;
use super::site::{Shape, Site};
use crate::now;
use crate::wire;

/// A mounted tmpfs; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a mount point");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Nothing can be done about it here.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills and frees so many times.
pub fn run(rounds: u64, seed: u64, report: &Report) {
    report.attempt(&format!("full disk (seed {seed})"), || {
        let mut site = Site::new(Shape::default(), seed);
        let Some(_mount) = Mount::new(&site.data(), "32m") else {
            return report.missing("full disk", "a tmpfs cannot be mounted here (that takes root)");
        };
        let mut random = Random::new(seed);
        let mut life = site.start();
        for round in 0..rounds {
            let load = site.load(&life);
            std::thread::sleep(random.millis(20, 200));
            let ballast = Ballast::new(&site.data());
            // In some rounds only somebody else meets the full disk, in the others the log does.
            if round % 4 == 3 {
                ballast.hold(random.millis(0, 300));
            } else {
                full(&site, &mut life, &ballast, report);
            }
            drop(ballast);
            report.count("times the disk was filled and freed", 1);
            resumes(&site, &mut life);
            // Some lives end on the full disk, or right behind it.
            if round % 5 == 4 {
                let ballast = Ballast::new(&site.data());
                ballast.hold(random.millis(0, 500));
                life.kill();
                load.stop();
                drop(ballast);
                life = site.start();
                report.count("kills on a full disk", 1);
            } else {
                load.finish();
            }
            site.check(&life);
        }
        report.count("events counted", site.end(life));
        report.must_have_reached(&[
            "times the daemon said that the disk is full",
            "questions answered on a full disk",
            "kills on a full disk",
        ]);
    });
}

/// Until the daemon says that the disk is full; it goes on answering.
fn full(site: &Site, life: &mut Life, ballast: &Ballast, report: &Report) {
    let until = now() + PATIENCE;
    loop {
        ballast.hold(Duration::from_millis(20));
        assert!(life.ended().is_none(), "a full disk ended it: {}", site.tail_of_log());
        assert!(now() < until, "it never says that the disk is full: {}", site.ask("/v1/status"));
        let ready = site.work.get("/ready");
        if ready.status == 503 {
            assert_eq!(ready.code(), "disk_full", "{ready:?}");
            break;
        }
    }
    report.count("times the daemon said that the disk is full", 1);
    let line = "{\"type\":\"none\"}\n";
    let headers = ["Content-Type: application/x-ndjson"];
    let refused = wire::request(wire::tcp(life.door("http")), "POST /v1/events", &headers, line);
    assert_eq!((refused.status, refused.code().as_str()), (503, "disk_full"), "{refused:?}");
    let answer = site.ask("/v1/aggregators/video-actions?wait=30s");
    let saved = site.books.accepted();
    assert!(answer["as_of_sequence"].as_u64() >= Some(saved), "{saved} events were saved before: {answer}");
    report.count("questions answered on a full disk", 1);
}

/// Everything goes on by itself.
fn resumes(site: &Site, life: &mut Life) {
    let acked = || site.lanes.iter().map(|lane| lane.acked()).sum::<u64>();
    let before = acked();
    let until = now() + PATIENCE;
    while acked() < before + 2000 || site.work.get("/ready").status != 200 {
        assert!(life.ended().is_none(), "it ended once the disk was freed: {}", site.tail_of_log());
        assert!(now() < until, "it does not go on: {} {}", site.ask("/v1/status"), site.tail_of_log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A file that takes all the room there is; removed when dropped.
struct Ballast(PathBuf);

impl Ballast {
    fn new(data: &Path) -> Self {
        let this = Self(data.join("ballast"));
        this.fill();
        this
    }

    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(&self.0).expect("the ballast");
        for size in [1 << 18, 1 << 12, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }

    /// Keeps the disk full for so long, whoever frees something.
    fn hold(&self, time: Duration) {
        let until = now() + time;
        self.fill();
        while now() < until {
            std::thread::sleep(Duration::from_millis(5));
            self.fill();
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // The next one finds it.
        let _ = std::fs::remove_file(&self.0);
    }
}
