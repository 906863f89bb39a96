//! Sending without acknowledgements: a socket's stream, or UDP datagrams. What is written is all that is known.

use std::io::{BufReader, Write};
use std::net::{Shutdown, UdpSocket};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::encoding::{Encoding, write_maps};
use super::session::{End, Whom, objection};
use super::source::{self, Source};
use super::summary::Summary;
use crate::connect::Stream;
use crate::progress::Meter;

/// How long the daemon may take to read what is under way.
const LAST_READ: Duration = Duration::from_secs(10);
/// Most bytes of lines in a datagram.
const DATAGRAM: usize = 60 << 10;

/// Writes everything to a socket and waits for the daemon to have taken it from there.
pub(super) fn pour(
    whom: &Whom,
    source: &mut Source,
    from_line: u64,
    meter: &mut Meter,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut stream = Stream::connect(&whom.endpoint, &whom.access)?;
    if whom.token.is_some() || whom.encoding == Encoding::Msgpack {
        stream.write_all(whom.handshake("data").as_bytes()).map_err(|error| lost(whom, &stream, error))?;
    }
    let (mut block, mut maps) = (Vec::new(), Vec::new());
    while source.next(&mut block)? {
        let bytes = match whom.encoding {
            Encoding::Json => &block,
            Encoding::Msgpack => {
                maps.clear();
                write_maps(&block, from_line + summary.lines, true, &mut maps)?;
                &maps
            }
        };
        stream.write_all(bytes).map_err(|error| lost(whom, &stream, error))?;
        summary.lines += source::count_lines(&block);
        let sent = summary.lines;
        meter.show(source.consumed(), |seconds| format!("{sent} lines, {:.0} lines/s", sent as f64 / seconds));
    }
    stream.shutdown(Shutdown::Write)?;
    // The daemon closes its side when it has read everything.
    match last_words(&stream) {
        Some(end @ End::Error { .. }) => Err(anyhow!("{end}")),
        _ => Ok(()),
    }
}

fn last_words(stream: &Stream) -> Option<End> {
    stream.set_read_timeout(Some(LAST_READ)).ok()?;
    objection(&mut BufReader::new(stream.try_clone().ok()?))
}

/// The daemon may have said why.
fn lost(whom: &Whom, stream: &Stream, error: std::io::Error) -> anyhow::Error {
    match last_words(stream) {
        Some(end) => anyhow!("{end}"),
        None => anyhow::Error::new(error)
            .context(format!("{} closed the connection; lines may be lost, --ack would tell which", whom.endpoint)),
    }
}

/// Sends everything in datagrams.
pub(super) fn datagrams(
    to: &str,
    source: &mut Source,
    from_line: u64,
    meter: &mut Meter,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let socket = connect(to).with_context(|| format!("cannot send to udp:{to}; check host and port"))?;
    let mut block = Vec::new();
    while source.next(&mut block)? {
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            let (datagram, after) = rest.split_at(whole_lines(rest));
            if datagram.is_empty() {
                let line = from_line + summary.lines;
                bail!(
                    "line {line} has more than the {DATAGRAM} bytes that a datagram takes; send it by unix, tcp or http"
                );
            }
            // An answer that nobody listens is about a datagram before; whether anything arrives is not known anyway.
            let sent = socket.send(datagram).or_else(|_| socket.send(datagram));
            sent.with_context(|| format!("no daemon takes datagrams at udp:{to}; check host and port"))?;
            summary.pieces += 1;
            summary.lines += source::count_lines(datagram);
            rest = after;
        }
        let sent = summary.lines;
        meter.show(source.consumed(), |seconds| format!("{sent} lines, {:.0} lines/s", sent as f64 / seconds));
    }
    Ok(())
}

fn connect(to: &str) -> std::io::Result<UdpSocket> {
    let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket)
}

/// Bytes of the whole lines that fit into a datagram; 0 when the first one does not.
fn whole_lines(block: &[u8]) -> usize {
    if block.len() <= DATAGRAM {
        return block.len();
    }
    memchr::memrchr(b'\n', &block[..DATAGRAM]).map_or(0, |newline| newline + 1)
}
