//! Opens every configured door: sources of events, and where questions are answered. First everything is bound, so that a door that cannot be
//! opened is an error before any event is taken; then everything is served. Must not know: what is said through a door.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tally_ingest::http::{BoxFuture, HttpDoor, HttpHooks, HttpLimits, HttpPresets, Unavailable};
use tally_ingest::{KernelDrops, Producers, SocketLimits, SocketSource, UdpSource};
use tally_net::http::{self, Server};
use tally_net::{AllowList, Hosts, Listener, Tls, Token};
use tally_query::Door;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::answers::Answers;
use crate::config::{Config, TlsFiles, Unix};
use crate::context::Context;

/// Who may use the sockets for questions: the owner and the group.
const QUESTION_MODE: u32 = 0o660;
/// How long questions under way may take to be answered at shutdown.
const QUESTION_GRACE: Duration = Duration::from_secs(2);
/// What a probe may ask without a token.
const PROBES: &[&str] = &["/health", "/ready"];

/// What the doors count, by name. Made before the doors, since some of them tell it.
#[derive(Clone, Debug, Default)]
pub struct DoorCounters {
    /// Sources of events.
    pub sources: Vec<(&'static str, Arc<tally_ingest::Counters>)>,
    /// Doors that speak HTTP.
    pub http: Vec<(&'static str, Arc<tally_net::Counters>)>,
    /// Datagrams that the kernel dropped.
    pub kernel_drops: Option<KernelDrops>,
}

impl DoorCounters {
    fn source(&mut self, name: &'static str) -> Arc<tally_ingest::Counters> {
        let counters = Arc::default();
        self.sources.push((name, Arc::clone(&counters)));
        counters
    }

    fn http(&mut self, name: &'static str) -> Arc<tally_net::Counters> {
        let counters = Arc::default();
        self.http.push((name, Arc::clone(&counters)));
        counters
    }

    /// What sources have counted. For one that speaks HTTP, its server has counted connections and bytes.
    pub fn of_sources(&self) -> Vec<(&'static str, tally_ingest::CountersSnapshot)> {
        let whole = |(name, counters): &(&'static str, Arc<tally_ingest::Counters>)| {
            let mut counts = counters.snapshot();
            if let Some((_, door)) = self.http.iter().find(|(door, _)| door == name) {
                let door = door.snapshot();
                counts.connections += door.connections;
                counts.accepted += door.accepted;
                counts.refused += door.too_many + door.not_allowed;
                counts.bytes_read = door.bytes_read;
            }
            (*name, counts)
        };
        self.sources.iter().map(whole).collect()
    }
}

/// The bounds that doors keep, as they are now.
#[derive(Debug)]
pub struct DoorLimits {
    local: watch::Sender<SocketLimits>,
    remote: watch::Sender<SocketLimits>,
    bodies: watch::Sender<HttpLimits>,
    http: watch::Sender<http::Limits>,
}

impl DoorLimits {
    /// Those of the configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            local: watch::Sender::new(local_limits(config)),
            remote: watch::Sender::new(remote_limits(config)),
            bodies: watch::Sender::new(body_limits(config)),
            http: watch::Sender::new(http_limits(config)),
        }
    }

    /// From now on those of this configuration.
    pub fn set(&self, config: &Config) {
        self.local.send_replace(local_limits(config));
        self.remote.send_replace(remote_limits(config));
        self.bodies.send_replace(body_limits(config));
        self.http.send_replace(http_limits(config));
    }
}

/// A client on this machine cannot vanish unseen, so a silent one may stay.
fn local_limits(config: &Config) -> SocketLimits {
    SocketLimits { idle: None, ..remote_limits(config) }
}

fn remote_limits(config: &Config) -> SocketLimits {
    let limits = &config.limits;
    SocketLimits {
        connections: limits.connections,
        line_bytes: limits.line_bytes,
        depth: limits.depth,
        handshake: limits.header_timeout,
        idle: Some(limits.idle_timeout),
    }
}

fn body_limits(config: &Config) -> HttpLimits {
    let limits = &config.limits;
    HttpLimits { body_bytes: limits.body_bytes, line_bytes: limits.line_bytes, depth: limits.depth }
}

fn http_limits(config: &Config) -> http::Limits {
    let limits = &config.limits;
    http::Limits {
        connections: limits.connections,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
    }
}

/// Sources and question doors that are bound, in this order of opening.
#[derive(Default)]
pub struct Doors {
    /// What the ready line says of them.
    pub addresses: Vec<String>,
    sockets: Vec<(SocketSource, Arc<tally_ingest::Counters>)>,
    udp: Option<(UdpSource, Arc<tally_ingest::Counters>)>,
    http: Option<(Listener, Arc<tally_ingest::Counters>, Arc<tally_net::Counters>)>,
    questions: Vec<(Listener, Guards, Door, Arc<tally_net::Counters>)>,
    /// What they count.
    pub counters: DoorCounters,
}

/// What a door wants to see.
#[derive(Default)]
struct Guards {
    allow: AllowList,
    token: Option<Token>,
    hosts: Option<Hosts>,
}

/// What serves; to be waited for after the stop.
pub struct Serving {
    /// Sources of events.
    pub sources: Vec<JoinHandle<()>>,
    /// Doors for questions.
    pub questions: Vec<JoinHandle<()>>,
}

impl Doors {
    /// Binds everything.
    pub async fn bind(context: &Context, limits: &DoorLimits) -> anyhow::Result<Self> {
        let mut doors = Self::default();
        doors.bind_sources(&context.config, limits, &context.datagrams).await?;
        doors.bind_questions(&context.config).await?;
        Ok(doors)
    }

    async fn bind_sources(
        &mut self,
        config: &Config,
        limits: &DoorLimits,
        datagrams: &Arc<tally_ingest::Counters>,
    ) -> anyhow::Result<()> {
        let grace = source_grace(config);
        if let Some(unix) = &config.unix {
            let listener = Listener::unix(&unix.path, unix.mode).await?;
            self.address("unix", listener.address());
            let source = SocketSource::new("unix", listener, limits.local.subscribe());
            let source = SocketSource { preset: unix.preset, allow: allow_list(config), grace, ..source };
            self.sockets.push((source, self.counters.source("unix")));
        }
        if let Some(tcp) = &config.tcp {
            let listener = Listener::tcp(tcp.listen, tls(tcp.tls.as_ref())?)?;
            self.address("tcp", listener.address());
            let source = SocketSource::new("tcp", listener, limits.remote.subscribe());
            let source = SocketSource { preset: tcp.preset, token: token(tcp.token_file.as_deref())?, grace, ..source };
            self.sockets.push((source, self.counters.source("tcp")));
        }
        if let Some(udp) = &config.udp {
            let source = UdpSource::bind(udp.listen, udp.preset, udp.receive_buffer)?;
            self.address("udp", &source.address().to_string());
            self.counters.kernel_drops = Some(source.kernel_drops());
            self.counters.sources.push(("udp", Arc::clone(datagrams)));
            self.udp = Some((source, Arc::clone(datagrams)));
        }
        if let Some(http) = &config.http {
            let listener = Listener::tcp(http.listen, tls(http.tls.as_ref())?)?;
            self.address("http", listener.address());
            self.http = Some((listener, self.counters.source("http"), self.counters.http("http")));
        }
        Ok(())
    }

    async fn bind_questions(&mut self, config: &Config) -> anyhow::Result<()> {
        let read_only = Door::Query { admin: config.admin.socket.display().to_string() };
        let listener = Listener::unix(&config.query.socket, QUESTION_MODE).await?;
        self.address("query", listener.address());
        let counters = self.counters.http("query");
        self.questions.push((listener, Guards::default(), read_only.clone(), counters));
        if let Some(listen) = config.query.listen {
            let listener = Listener::tcp(listen, tls(config.query.tls.as_ref())?)?;
            self.address("query_tcp", listener.address());
            let token = token(config.query.token_file.as_deref())?;
            let guards = Guards { token, hosts: Some(Hosts::new(&config.query.hosts)), ..Guards::default() };
            let counters = self.counters.http("query_tcp");
            self.questions.push((listener, guards, read_only, counters));
        }
        let listener = Listener::unix(&config.admin.socket, QUESTION_MODE).await?;
        self.address("admin", listener.address());
        let counters = self.counters.http("admin");
        // Whoever may not even send events must not change what counts them.
        let guards = Guards { allow: allow_list(config), ..Guards::default() };
        self.questions.push((listener, guards, Door::Admin, counters));
        Ok(())
    }

    fn address(&mut self, name: &str, address: &str) {
        self.addresses.push(format!("{name}={address}"));
    }

    /// Serves everything until `stopped` says so.
    pub fn serve(
        self,
        context: &Arc<Context>,
        producers: &Arc<Producers>,
        answers: &Arc<Answers>,
        limits: &DoorLimits,
        stopped: &watch::Receiver<bool>,
    ) -> anyhow::Result<Serving> {
        let config = &context.config;
        let queue = &context.queue;
        let mut serving = Serving { sources: Vec::new(), questions: Vec::new() };
        for (source, counters) in self.sockets {
            let served = source.serve(queue.clone(), producers.clone(), counters, stopped.clone());
            serving.sources.push(tokio::spawn(served));
        }
        if let Some((source, counters)) = self.udp {
            serving.sources.push(tokio::spawn(source.serve(queue.clone(), counters, stopped.clone())));
        }
        if let (Some((listener, counters, net)), Some(http)) = (self.http, &config.http) {
            let door = HttpDoor {
                source: format!("http:{}", listener.address()).into(),
                presets: http_presets(config, http.preset)?,
                queue: queue.clone(),
                counters,
                limits: limits.bodies.subscribe(),
                hooks: Arc::new(Hooks(answers.clone())),
            };
            let guards = Guards {
                token: token(http.token_file.as_deref())?,
                hosts: Some(Hosts::new(&http.hosts)),
                ..Guards::default()
            };
            let server = server(listener, tally_ingest::http::router(door), guards, limits, net, &[]);
            serving.sources.push(tokio::spawn(http::serve(server, stopped.clone(), source_grace(config))));
        }
        for (listener, guards, door, counters) in self.questions {
            let router = tally_query::router(answers.clone(), door);
            let server = server(listener, router, guards, limits, counters, PROBES);
            serving.questions.push(tokio::spawn(http::serve(server, stopped.clone(), QUESTION_GRACE)));
        }
        Ok(serving)
    }
}

/// Half of the time is for sources to come to an end: a client that is slow to say what it wants must not cost the last flush.
fn source_grace(config: &Config) -> Duration {
    config.shutdown.grace / 2
}

/// Whom the Unix sockets let in that events or changes come by.
fn allow_list(config: &Config) -> AllowList {
    let list = |unix: &Unix| AllowList { uids: unix.allow_uids.clone(), gids: unix.allow_gids.clone() };
    config.unix.as_ref().map(list).unwrap_or_default()
}

fn server(
    listener: Listener,
    router: tally_net::Router,
    Guards { allow, token, hosts }: Guards,
    limits: &DoorLimits,
    counters: Arc<tally_net::Counters>,
    open_paths: &'static [&'static str],
) -> Server {
    let limits = limits.http.subscribe();
    Server { listener, router, limits, allow, token, open_paths, hosts, counters }
}

fn http_presets(config: &Config, default: usize) -> anyhow::Result<HttpPresets> {
    let shipped = |name| config.preset(name).with_context(|| format!("the preset {name} comes with Tally"));
    Ok(HttpPresets {
        default,
        activity: shipped("activity")?,
        segment: shipped("segment")?,
        segment_track: shipped("segment-track")?,
        segment_page: shipped("segment-page")?,
        segment_identify: shipped("segment-identify")?,
        cloudevents: shipped("cloudevents")?,
    })
}

fn tls(files: Option<&TlsFiles>) -> anyhow::Result<Option<Tls>> {
    files.map(|files| Ok(Tls::load(&files.cert, &files.key)?)).transpose()
}

fn token(file: Option<&Path>) -> anyhow::Result<Option<Token>> {
    file.map(|file| Ok(Token::load(file)?)).transpose()
}

/// What the events' HTTP door asks of the daemon.
struct Hooks(Arc<Answers>);

impl HttpHooks for Hooks {
    fn refusing(&self) -> Option<Unavailable> {
        let code = self.0.context.progress.facts().not_ready()?;
        let detail = match code {
            "disk_full" => "the disk is full: nothing is taken until there is room",
            "stopping" => "the daemon is stopping",
            _ => "the daemon is starting; try again",
        };
        Some(Unavailable { code, detail: detail.into() })
    }

    fn applied(&self, sequence: u64) -> BoxFuture<'_, bool> {
        Box::pin(self.0.applied(sequence))
    }
}
