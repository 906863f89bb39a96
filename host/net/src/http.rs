//! The HTTP/1.1 server of every door: an accept loop of our own, so that connections, heads and idle time are bounded and counted; checks of
//! peer, `Host` and token before a request reaches the router.
//!
//! Must not know: routes. Browsers are no clients of it: nothing is sent that would let a page of another origin read an answer.

mod activity;
mod checks;
mod framing;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::counters::{Counters, add};
use crate::guard::{AllowList, Hosts, Token};
use crate::listener::{Accepting, Listener, Refusals};
use crate::socket::{Peer, Socket};
use activity::{Activity, Late, Watched};
use checks::Checked;
use framing::Fault;

/// How long accepting pauses after it failed: it fails for want of file descriptors or memory, which trying again at once would not bring.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a closed connection is read on for its client to notice.
const LINGER: Duration = Duration::from_secs(5);
/// Most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// Bounds on what clients may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones are answered 503.
    pub connections: usize,
    /// How long a request's head may take, from the connection's start or its own first byte.
    pub header_timeout: Duration,
    /// How long nothing may go over a connection.
    pub idle_timeout: Duration,
}

/// A door that speaks HTTP.
#[derive(Debug)]
pub struct Server {
    /// Where clients come in.
    pub listener: Listener,
    /// What answers. The [`Peer`] is among a request's extensions.
    pub router: axum::Router,
    /// Bounds; a change holds from the next connection or request on.
    pub limits: watch::Receiver<Limits>,
    /// Whom a Unix socket lets in.
    pub allow: AllowList,
    /// What a request must carry: `Authorization: Bearer TOKEN`, or basic authentication with the token for its user name.
    pub token: Option<Token>,
    /// Paths that need no token, such as `/health`.
    pub open_paths: &'static [&'static str],
    /// Names that the `Host` header may have; `None` for any.
    pub hosts: Option<Hosts>,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// Serves until `stop` says true (or its sender is gone); then takes nothing more, and gives requests under way as long as `grace`.
pub async fn serve(server: Server, stop: watch::Receiver<bool>, grace: Duration) {
    let door = Arc::new(Door {
        checked: Checked::new(&server),
        limits: server.limits.clone(),
        allow: server.allow,
        counters: server.counters,
        stop: stop.clone(),
    });
    let mut stop = std::pin::pin!(stopped(stop));
    let mut connections = JoinSet::new();
    let mut refusals = Refusals::default();
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next() => door.note_end(ended),
            accepted = server.listener.accept() => match accepted {
                Ok(accepted) => door.take(accepted, &mut connections, &mut refusals),
                Err(error) => {
                    add(&door.counters.accept_errors, 1);
                    tracing::warn!(door = server.listener.address(), %error, "could not accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // The file of a Unix socket goes with it.
    drop(server.listener);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            door.note_end(ended);
        }
    };
    let _ = tokio::time::timeout(grace, drained).await;
}

/// Waits until the daemon stops.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What the connections of a server share.
struct Door {
    checked: Checked,
    limits: watch::Receiver<Limits>,
    allow: AllowList,
    counters: Arc<Counters>,
    stop: watch::Receiver<bool>,
}

impl Door {
    fn take(self: &Arc<Self>, accepted: Accepting, connections: &mut JoinSet<()>, refusals: &mut Refusals) {
        let max = self.limits.borrow().connections;
        if connections.len() >= max {
            add(&self.counters.too_many, 1);
            tracing::warn!(peer = %accepted.peer(), max, "refused a connection: as many are open as may be; raise limits.connections or close some");
            let detail = format!("{max} connections are open, which is the limit; try again later");
            refusals.refuse(accepted, canned(503, "Service Unavailable", "too_many_connections", &detail));
        } else if !self.allow.allows(accepted.peer()) {
            add(&self.counters.not_allowed, 1);
            tracing::warn!(peer = %accepted.peer(), "refused a connection: neither its user nor its group is on the list");
            let detail =
                format!("{} may not use this socket: neither its user nor its group is on the list", accepted.peer());
            refusals.refuse(accepted, canned(403, "Forbidden", "peer_not_allowed", &detail));
        } else {
            add(&self.counters.connections, 1);
            add(&self.counters.accepted, 1);
            connections.spawn(Arc::clone(self).converse(accepted));
        }
    }

    fn note_end(&self, ended: Result<(), JoinError>) {
        self.counters.connections.fetch_sub(1, Relaxed);
        if let Err(error) = ended {
            add(&self.counters.panicked, 1);
            tracing::error!(%error, "the task of a connection failed; this is a bug");
        }
    }

    /// Serves one connection until it ends, or until the request under way has been answered after the stop.
    async fn converse(self: Arc<Self>, accepted: Accepting) {
        let peer = accepted.peer().clone();
        let patience = self.limits.borrow().header_timeout;
        let ready = tokio::select! {
            ready = accepted.ready(patience) => ready,
            () = stopped(self.stop.clone()) => return,
        };
        let socket = match ready {
            Ok(socket) => socket,
            Err(error) => {
                add(&self.counters.tls_failed, 1);
                tracing::info!(%peer, %error, "the TLS handshake failed");
                return;
            }
        };
        let activity = Arc::new(Activity::begun());
        // A connection that has said nothing is kept small: what speaks HTTP is made when there is something to read.
        tokio::select! {
            _ = socket.readable() => {}
            late = activity.too_late(self.limits.clone()) => return self.note_late(late, &peer),
            () = stopped(self.stop.clone()) => return,
        }
        Box::pin(self.serve(socket, peer, activity)).await;
    }

    fn note_late(&self, late: Late, peer: &Peer) {
        let counter = if late.head { &self.counters.header_timeouts } else { &self.counters.idle_timeouts };
        add(counter, 1);
        tracing::debug!(%peer, head = late.head, "closed a connection that took too long");
    }

    async fn serve(&self, socket: Socket, peer: Peer, activity: Arc<Activity>) {
        let service = self.checked.serving(peer.clone(), Arc::clone(&activity));
        let socket = Watched::new(socket, Arc::clone(&activity), Arc::clone(&self.counters));
        let mut connection = hyper::server::conn::http1::Builder::new()
            // Ours tells an idle connection from a slow head.
            .header_read_timeout(None)
            // A client may say that it has nothing more to send, and still wants its answer.
            .half_close(true)
            .max_headers(MAX_HEADERS)
            // More than a head may have: which one is too large is told by its framing, before.
            .max_buf_size(MAX_HEAD + 4096)
            .serve_connection(TokioIo::new(socket), service);
        let outcome = tokio::select! {
            outcome = poll_fn(|cx| connection.poll_without_shutdown(cx)) => outcome,
            late = activity.too_late(self.limits.clone()) => return self.note_late(late, &peer),
            () = stopped(self.stop.clone()) => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await
            }
        };
        let (fault, mut socket) = connection.into_parts().io.into_inner().into_parts();
        self.note_fault(fault, outcome.as_ref().err());
        let farewell = async {
            // Of a request under way its body was at fault: whoever read that has answered.
            if let Some(answer) = fault.and_then(refusal) {
                socket.write_all(&answer).await?;
            }
            io::Result::Ok(())
        };
        tokio::select! {
            _ = tokio::time::timeout(LINGER, farewell) => {}
            () = stopped(self.stop.clone()) => {}
        }
        tokio::select! {
            () = linger(socket) => {}
            () = stopped(self.stop.clone()) => {}
        }
        if let Err(error) = outcome {
            tracing::debug!(%peer, ?fault, %error, "an HTTP connection ended");
        }
    }

    /// Counts what ended a connection that should have gone on.
    fn note_fault(&self, fault: Option<Fault>, error: Option<&hyper::Error>) {
        let counters = &self.counters;
        let (counter, answered) = match (fault, error) {
            (Some(Fault::Head(_)), _) => (&counters.malformed_requests, Some(StatusCode::BAD_REQUEST)),
            (Some(Fault::Body), _) => (&counters.malformed_requests, None),
            (Some(Fault::HeadTooLarge), _) => {
                (&counters.large_heads, Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
            }
            // The library has answered.
            (None, Some(error)) if error.is_parse() => (&counters.malformed_requests, Some(StatusCode::BAD_REQUEST)),
            (None, Some(error)) if error.is_incomplete_message() => (&counters.unfinished_requests, None),
            (None, Some(_)) => (&counters.broken_connections, None),
            (None, None) => return,
        };
        add(counter, 1);
        answered.into_iter().for_each(|status| counters.answers.add(status.as_u16()));
    }
}

/// The answer to a request whose head is at fault.
fn refusal(fault: Fault) -> Option<Vec<u8>> {
    match fault {
        Fault::Head(what) => Some(canned(400, "Bad Request", "malformed_request", what)),
        Fault::HeadTooLarge => {
            let what = format!("the head has more than {MAX_HEAD} bytes or {MAX_HEADERS} headers");
            Some(canned(431, "Request Header Fields Too Large", "head_too_large", &what))
        }
        Fault::Body => None,
    }
}

/// Closes, but reads on for a while: closing over bytes that were not read resets the connection, and a client that is still sending a body
/// which was answered before its end (too large, say) would never see the answer.
async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let discard = async {
        socket.shutdown().await?;
        let mut unread = vec![0; 16 * 1024];
        while socket.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether the client closed, vanished or sends without end: this was the end.
    let _ = tokio::time::timeout(LINGER, discard).await;
}

/// An error as RFC 9457 has it: `application/problem+json` with a code for programs and a sentence for people.
pub fn problem(status: StatusCode, code: &str, detail: impl Into<String>) -> Response {
    let body = problem_text(status.as_u16(), status.canonical_reason().unwrap_or_default(), code, &detail.into());
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}

fn problem_text(status: u16, title: &str, code: &str, detail: &str) -> String {
    serde_json::json!({ "type": "about:blank", "title": title, "status": status, "code": code, "detail": detail })
        .to_string()
}

/// A whole answer for a connection that is not served.
fn canned(status: u16, title: &str, code: &str, detail: &str) -> Vec<u8> {
    let body = problem_text(status, title, code, detail);
    let length = body.len();
    let retry = if status == 503 { "retry-after: 1\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n{retry}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
