//! Asks the daemon again and again, in a thread of its own, so that a slow answer never holds up a key. Listens to signals too. Knows
//! no screen.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::sample::Sample;
use crate::client::Target;
use crate::http::{Client, Failure};
use crate::progress::Stopwatch;

/// What an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of asking.
pub enum Polled {
    /// An answer.
    Sample(Box<Sample>),
    /// No answer, and why.
    Lost(String),
    /// A signal told this process to end.
    Ended,
}

/// See the module.
pub struct Poll {
    samples: Receiver<Polled>,
    address: String,
}

impl Poll {
    /// Begins to ask, so often.
    pub fn start(target: &Target, interval: Duration) -> anyhow::Result<Poll> {
        let (endpoint, client) = target.client(PATIENCE)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, samples) = mpsc::channel();
        std::thread::Builder::new()
            .name("poll".to_string())
            .spawn(move || runtime.block_on(ask_on(client, interval, &sender)))?;
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

/// Asks until nobody listens any more, or a signal comes.
async fn ask_on(client: Client, interval: Duration, samples: &Sender<Polled>) {
    tokio::select! {
        () = signalled() => drop(samples.send(Polled::Ended)),
        () = ask_again(client, interval, samples) => {}
    }
}

/// Waits for a signal after which a terminal must be as it was.
async fn signalled() {
    let listen = |kind| signal(kind).ok();
    let [mut interrupt, mut terminate, mut hangup] =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(listen);
    let (Some(interrupt), Some(terminate), Some(hangup)) = (&mut interrupt, &mut terminate, &mut hangup) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

async fn ask_again(mut client: Client, interval: Duration, samples: &Sender<Polled>) {
    let clock = Stopwatch::start();
    loop {
        let begun = clock.elapsed();
        let polled = match sample(&mut client, clock).await {
            Ok(sample) => Polled::Sample(Box::new(sample)),
            Err(error) => Polled::Lost(format!("{error:#}")),
        };
        if samples.send(polled).is_err() {
            return;
        }
        tokio::time::sleep((begun + interval).saturating_sub(clock.elapsed())).await;
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
