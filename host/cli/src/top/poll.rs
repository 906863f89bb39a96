//! Asks the daemon once a second, in a thread of its own, so that a slow answer never holds up a key. Knows no screen.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

use super::sample::Sample;
use crate::client::Target;
use crate::http::{Client, Failure};
use crate::progress::Stopwatch;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// What an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A sample, or why there is none.
pub type Polled = Result<Sample, String>;

/// See the module.
pub struct Poll {
    samples: Receiver<Polled>,
    address: String,
}

impl Poll {
    /// Begins to ask.
    pub fn start(target: &Target) -> anyhow::Result<Poll> {
        let (endpoint, client) = target.client(PATIENCE)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, samples) = mpsc::channel();
        std::thread::Builder::new()
            .name("poll".to_string())
            .spawn(move || runtime.block_on(ask_on(client, &sender)))?;
        Ok(Poll { samples, address: endpoint.to_string() })
    }

    /// Whom it asks.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What has come, if anything.
    pub fn try_next(&self) -> Result<Polled, TryRecvError> {
        self.samples.try_recv()
    }

    /// Waits for what comes next.
    pub fn next(&self) -> Result<Polled, mpsc::RecvError> {
        self.samples.recv()
    }
}

/// Asks until nobody listens any more.
async fn ask_on(mut client: Client, samples: &Sender<Polled>) {
    let clock = Stopwatch::start();
    loop {
        let begun = clock.elapsed();
        let polled = sample(&mut client, clock).await.map_err(|error| format!("{error:#}"));
        if samples.send(polled).is_err() {
            return;
        }
        tokio::time::sleep((begun + INTERVAL).saturating_sub(clock.elapsed())).await;
    }
}

async fn sample(client: &mut Client, clock: Stopwatch) -> anyhow::Result<Sample> {
    let status = get(client, "/v1/status").await?;
    let at = clock.elapsed();
    let plugins = get(client, "/v1/plugins").await?;
    Ok(Sample::read(at, &status, &plugins))
}

async fn get(client: &mut Client, path: &str) -> anyhow::Result<Value> {
    let answer = client.ask(Method::GET, path, &[], Bytes::new()).await.map_err(Failure::into_error)?;
    match answer.status.is_success() {
        true => answer.json(),
        false => anyhow::bail!("{}", answer.problem()),
    }
}
