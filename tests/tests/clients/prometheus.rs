//! Prometheus, which scrapes the daemon, and its promtool, which reads the metrics as a reviewer would.

use std::net::TcpListener;
use std::process::{Child, Stdio};

use serde_json::Value;
use tally_tests::clients::{Open, program};
use tally_tests::{succeed, text, wait_until};

/// Killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon that has something of everything to tell.
fn busy() -> Open {
    let open = Open::new("[flush]\nevents = 1000\n");
    let events = open.work.generate("events", "--events 5000 --seed 9 --invalid 0.02 --refused 0.01 --homepage 0.1");
    succeed(open.work.send(&["--ack"]).arg(&events));
    open.summary("video-actions");
    open.summary("homepage-fetch");
    open
}

#[test]
fn promtool_has_nothing_to_complain_of() {
    let (Some(mut curl), Some(mut promtool)) = (program("curl"), program("promtool")) else { return };
    let open = busy();
    let metrics = succeed(curl.args(["--silent", "--show-error", "--fail"]).arg(open.questions("/metrics")));
    std::fs::write(open.work.path("metrics"), &metrics).expect("writing the metrics");
    let file = std::fs::File::open(open.work.path("metrics")).expect("the metrics");
    let output = promtool.args(["check", "metrics"]).stdin(file).output().expect("promtool runs");
    assert!(output.status.success() && text(&output).is_empty(), "{}\n{metrics}", text(&output));
    open.end();
}

#[test]
fn prometheus_scrapes_the_numbers_of_the_ledger() {
    let (Some(mut prometheus), Some(_)) = (program("prometheus"), program("curl")) else { return };
    let open = busy();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - job_name: tally\n  static_configs: [{{targets: ['{}']}}]\n",
        open.daemon.door("query_tcp")
    );
    std::fs::write(open.work.path("prometheus.yml"), config).expect("writing its configuration");
    // It does not say which port it took, so it is told one that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").to_string();
    let log = std::fs::File::create(open.work.path("prometheus.log")).expect("its log");
    prometheus.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(log);
    prometheus.arg(format!("--config.file={}", open.work.path("prometheus.yml").display()));
    prometheus.arg(format!("--storage.tsdb.path={}", open.work.path("prometheus").display()));
    let _running = Running(prometheus.spawn().expect("prometheus starts"));

    let value = |query: &str| value(&address, query);
    wait_until("prometheus has scraped the daemon", || value("up{job=\"tally\"}") == Some(1.0));
    let [received, accepted, rejected, duplicate, dropped] = open.ledger();
    assert_eq!((received, duplicate, dropped), (5000, 0, 0));
    assert!(rejected > 0);
    for (query, expected) in [
        ("tally_events_received_total", received),
        ("tally_events_accepted_total", accepted),
        ("sum(tally_events_rejected_total)", rejected),
        ("tally_events_duplicate_total", duplicate),
        ("tally_log_last_sequence", accepted),
        ("tally_ready", 1),
        ("sum(tally_source_lines_total{source=\"unix\"})", received),
        ("count(tally_aggregator_info)", 2),
        ("sum(tally_aggregator_quarantined)", 0),
    ] {
        wait_until(&format!("{query} is {expected}"), || value(query) == Some(expected as f64));
    }
    // Every accepted event is somewhere in every aggregator's account.
    let account = "sum by (aggregator) ({__name__=~\"tally_aggregator_(applied|refused|not_subscribed)_rows_total\"}) \
                   + on (aggregator) tally_aggregator_unsaved_events";
    wait_until("the aggregators' accounts balance", || value(&format!("min({account})")) == Some(accepted as f64));
    assert_eq!(value(&format!("max({account})")), Some(accepted as f64));
    open.end();
}

/// The value of a query that has one.
fn value(address: &str, query: &str) -> Option<f64> {
    let mut curl = program("curl")?;
    curl.args(["--silent", "--get", "--noproxy", "*", "--data-urlencode", &format!("query={query}")]);
    let output = curl.arg(format!("http://{address}/api/v1/query")).output().expect("curl runs");
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}
