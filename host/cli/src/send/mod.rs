//! `tally send`: a file or stdin to any of the daemon's doors. This file is the order of things; reading is in `source`,
//! acknowledged streams in `acknowledged` (with `backlog` and `session`), HTTP in `http`, the rest in `plain`.

mod acknowledged;
mod backlog;
mod encoding;
mod http;
mod plain;
mod session;
mod source;
mod summary;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::ValueEnum;
use tally_daemon::config::parse_duration;

use crate::address::{Door, Endpoint};
use crate::client::with_parameters;
use crate::connect::Access;
use crate::http::Client;
use crate::outcome::{Usage, print};
use crate::progress::Meter;
use encoding::Encoding;
use http::{Plan, Wait};
use session::Whom;
use source::Source;
use summary::{Summary, Way};

/// Lines of a request that does not say how many.
const BATCH: u64 = 1000;

/// Sends lines of JSON, plain or gzip, to a daemon.
///
/// To a socket: with --ack it ends when every line is durable, or fails. With --producer as well it survives restarts on
/// either side: the daemon remembers how many lines of that name it has decided, so the same command run again continues
/// where the last one ended, and counts nothing twice. A name belongs to one stream of lines: use another one for another
/// file.
///
/// By HTTP: lines go in batches, each answered when its lines are durable (see --wait); a daemon that is full is asked
/// again after the time it names.
///
/// By UDP: lines are packed into datagrams; nothing is acknowledged, and what the daemon cannot take at once is lost.
///
/// Exit code 0: everything was sent, and is durable where that was asked for (rejected lines are told, and no failure).
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// File to send, plain or gzip; - for stdin
    file: String,
    /// The daemon's door: unix:PATH, tcp:HOST:PORT, tcp+tls:HOST:PORT, udp:HOST:PORT or http(s)://HOST:PORT[/PATH]
    #[arg(long, value_name = "DOOR", env = "TALLY_TO")]
    to: Door,
    #[command(flatten)]
    access: Access,
    /// How events are written; MessagePack leaves out blank lines and does not count them
    #[arg(long, value_enum, default_value_t)]
    encoding: Encoding,
    /// On a socket: wait until the daemon has made every line durable
    #[arg(long)]
    ack: bool,
    /// On a socket: name of this stream of lines (1 to 128 printable ASCII characters), to resume by; implies --ack
    #[arg(long, value_name = "ID", value_parser = producer)]
    producer: Option<String>,
    /// By HTTP: most lines of a request [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    batch: Option<u64>,
    /// By HTTP: what each answer waits for [default: durable]
    #[arg(long, value_enum)]
    wait: Option<Wait>,
    /// Begin at this line of the file; the first is 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// With --producer or by HTTP: how long to try again without any progress
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    retry_for: Duration,
    /// What the summary on stdout looks like
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The form of the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One sentence.
    Text,
    /// One JSON object.
    Json,
}

const EXAMPLE: &str = "\
Example:
  tally send events.ndjson.gz --to unix:/tmp/tally.sock --ack --producer events-2026-01-27
  tally send events.ndjson --to https://tally.example:7072 --token-file token --wait applied
  tally generate --events 1000000 --seed 1 | tally send - --to tcp:localhost:7070 --ack";

fn producer(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match (1..=128).contains(&text.len()) && printable {
        true => Ok(text.to_string()),
        false => Err("a producer's name has 1 to 128 printable ASCII characters".to_string()),
    }
}

/// Sends, prints the summary, and fails unless everything arrived.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let output = args.output;
    let (summary, outcome) = send(args)?;
    print(&match output {
        Output::Text => summary.text(),
        Output::Json => summary.json(),
    })?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// What was achieved, and whether it was everything. The outer error is one of flags or of opening files.
fn send(args: Args) -> anyhow::Result<(Summary, anyhow::Result<()>)> {
    args.check().map_err(|problem| Usage(anyhow!("{problem}")))?;
    let mut source = Source::open(&args.file)?;
    let before = args.from_line - 1;
    let skipped = source.skip_lines(before)?;
    if skipped < before {
        return Err(Usage(anyhow!("--from-line {}: {} has only {skipped} lines", args.from_line, args.file)).into());
    }
    if args.encoding == Encoding::Msgpack {
        source.leave_out_blank_lines();
    }
    let mut meter = Meter::start(source.size());
    let mut summary = Summary::new(args.way());
    let outcome = args.pour(&mut source, &mut meter, &mut summary);
    summary.seconds = meter.seconds();
    summary.complete = outcome.is_ok();
    meter.end();
    Ok((summary, outcome))
}

impl Args {
    fn acknowledged(&self) -> bool {
        self.ack || self.producer.is_some()
    }

    fn way(&self) -> Way {
        match self.to {
            Door::Socket(_) if self.acknowledged() => Way::Acknowledged,
            Door::Socket(_) => Way::Plain,
            Door::Udp(_) => Way::Datagrams,
            Door::Http { .. } => Way::Requests(self.wait.unwrap_or(Wait::Durable)),
        }
    }

    /// Flags that mean nothing at this door.
    fn check(&self) -> Result<(), &'static str> {
        let http = matches!(self.to, Door::Http { .. });
        let msgpack = self.encoding == Encoding::Msgpack;
        match &self.to {
            Door::Udp(_) if self.acknowledged() => {
                Err("UDP acknowledges nothing; leave out --ack and --producer, or send by unix, tcp or http")
            }
            Door::Udp(_) if msgpack => Err("UDP takes JSON lines only; leave out --encoding"),
            Door::Udp(_) if self.access.token_file.is_some() => Err("UDP takes no token; leave out --token-file"),
            Door::Http { .. } if self.producer.is_some() => {
                Err("HTTP knows no producers; leave out --producer, or send by unix or tcp")
            }
            Door::Http { .. } if self.ack && self.wait == Some(Wait::Accepted) => {
                Err("--wait accepted does not wait for what --ack asks for; leave one out")
            }
            _ if !http && self.wait.is_some() => {
                Err("--wait is for http; on a socket --ack waits until lines are durable")
            }
            _ if !http && self.batch.is_some() => Err("--batch is for http; a socket needs no batches"),
            _ => Ok(()),
        }
    }

    /// Through the door.
    fn pour(&self, source: &mut Source, meter: &mut Meter, summary: &mut Summary) -> anyhow::Result<()> {
        match &self.to {
            Door::Socket(endpoint) => {
                let whom = self.whom(endpoint)?;
                match self.acknowledged() {
                    true => acknowledged::send(self, &whom, source, meter, summary),
                    false => plain::pour(&whom, source, self.from_line, meter, summary),
                }
            }
            Door::Udp(to) => plain::datagrams(to, source, self.from_line, meter, summary),
            Door::Http { endpoint, path } => {
                let mut client = Client::new(endpoint.clone(), self.access.clone(), http::PATIENCE)?;
                let plan = self.plan(path);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(http::post(&mut client, &plan, source, meter, summary))
            }
        }
    }

    fn whom(&self, endpoint: &Endpoint) -> anyhow::Result<Whom> {
        Ok(Whom {
            endpoint: endpoint.clone(),
            access: self.access.clone(),
            token: self.access.token()?,
            producer: self.producer.clone(),
            encoding: self.encoding,
        })
    }

    fn plan(&self, path: &str) -> Plan {
        let wait = self.wait.map(|wait| ("wait".to_string(), wait.name().to_string()));
        Plan {
            path: with_parameters(path.to_string(), wait.as_slice()),
            batch: self.batch.unwrap_or(BATCH),
            encoding: self.encoding,
            from_line: self.from_line,
            retry_for: self.retry_for,
        }
    }
}
