//! Where a daemon is: the addresses that `--to` takes, read and printed. Knows no connection.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a stream of bytes leads: what sockets and HTTP have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// Host name or IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// By TLS.
        tls: bool,
    },
}

impl Endpoint {
    /// What the `Host` header says.
    pub fn authority(&self) -> String {
        match self {
            Endpoint::Unix(_) => "tally".to_string(),
            Endpoint::Tcp { host, port, .. } => host_and_port(host, *port),
        }
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => path.display().fmt(f),
            Endpoint::Tcp { host, port, .. } => f.write_str(&host_and_port(host, *port)),
        }
    }
}

fn host_and_port(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// A door that takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// `unix:PATH`, `tcp:HOST:PORT`, `tcp+tls:HOST:PORT`.
    Socket(Endpoint),
    /// `udp:HOST:PORT`; as it is given to the resolver.
    Udp(String),
    /// `http://HOST:PORT[/PATH]`, `https://...`.
    Http {
        /// Where.
        endpoint: Endpoint,
        /// Path and parameters of the request.
        path: String,
    },
}

/// Path of the events door when an address names none.
const EVENTS: &str = "/v1/events";

const DOORS: &str = "write unix:PATH, tcp:HOST:PORT, tcp+tls:HOST:PORT, udp:HOST:PORT, http://HOST:PORT or https://HOST:PORT, e.g. unix:/tmp/tally.sock";

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Door, String> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(DOORS.to_string());
        };
        match scheme {
            "unix" => Ok(Door::Socket(Endpoint::Unix(path(rest)?))),
            "tcp" => Ok(Door::Socket(tcp(rest, false)?)),
            "tcp+tls" => Ok(Door::Socket(tcp(rest, true)?)),
            "udp" => {
                let (host, port) = split(rest, None)?;
                Ok(Door::Udp(host_and_port(&host, port)))
            }
            "http" | "https" => {
                let (endpoint, path) = url(text)?;
                let path = if path == "/" { EVENTS.to_string() } else { path };
                Ok(Door::Http { endpoint, path })
            }
            _ => Err(DOORS.to_string()),
        }
    }
}

impl Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Door::Socket(endpoint) => endpoint.fmt(f),
            Door::Udp(address) => write!(f, "udp:{address}"),
            Door::Http { endpoint, path } => {
                let tls = matches!(endpoint, Endpoint::Tcp { tls: true, .. });
                write!(f, "{}://{endpoint}{path}", if tls { "https" } else { "http" })
            }
        }
    }
}

/// A door that answers questions: `PATH`, `unix:PATH` or `http(s)://HOST:PORT`.
pub fn questions(text: &str) -> Result<Endpoint, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        let (endpoint, path) = url(text)?;
        return match path.as_str() {
            "/" => Ok(endpoint),
            path => Err(format!("leave out {path}; the command knows the paths")),
        };
    }
    if text.starts_with("tcp:") || text.starts_with("tcp+tls:") || text.starts_with("udp:") {
        return Err("that is a door for events; write the path of the query socket or http://HOST:PORT".to_string());
    }
    path(text.strip_prefix("unix:").unwrap_or(text)).map(Endpoint::Unix)
}

fn path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("the path of the socket is missing, e.g. /tmp/tally.sock".to_string()),
        path => Ok(PathBuf::from(path)),
    }
}

fn tcp(text: &str, tls: bool) -> Result<Endpoint, String> {
    let (host, port) = split(text, None)?;
    Ok(Endpoint::Tcp { host, port, tls })
}

/// `http[s]://HOST[:PORT][/PATH][?PARAMETERS]` as an endpoint and what the request asks for.
fn url(text: &str) -> Result<(Endpoint, String), String> {
    let (scheme, rest) =
        text.split_once("://").ok_or_else(|| format!("write http://HOST:PORT or https://HOST:PORT, not {text}"))?;
    let tls = scheme == "https";
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("give a token by --token-file, not in the address".to_string());
    }
    let (host, port) = split(authority, Some(if tls { 443 } else { 80 }))?;
    let path = path.split('#').next().unwrap_or_default();
    if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(format!("write {path} with its spaces and letters beyond ASCII encoded, e.g. %20"));
    }
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    Ok((Endpoint::Tcp { host, port, tls }, path))
}

/// `HOST:PORT`, `[IPV6]:PORT`, or a host alone where there is a default port.
fn split(text: &str, default: Option<u16>) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not HOST:PORT, e.g. localhost:7070 or [::1]:7070");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':').or((after.is_empty() && default.is_some()).then_some("")))
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match (port, default) {
        (Some(""), Some(default)) => default,
        (Some(port), _) => port.parse().map_err(|_| wrong())?,
        (None, _) => return Err(wrong()),
    };
    let bare_v6 = host.contains(':') && !text.starts_with('[');
    match host.is_empty() || bare_v6 {
        true => Err(wrong()),
        false => Ok((host.to_string(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn every_door_is_read_and_printed() {
        let texts = [
            "unix:/tmp/t.sock",
            "tcp:localhost:7070",
            "tcp+tls:[::1]:7070",
            "udp:127.0.0.1:7071",
            "http://localhost:7072",
            "http://localhost",
            "https://tally.example/activity?x=1#y",
            "https://[::1]",
        ];
        let printed: String =
            texts.iter().map(|text| format!("{text} -> {}\n", text.parse::<Door>().unwrap())).collect();
        expect![[r#"
            unix:/tmp/t.sock -> /tmp/t.sock
            tcp:localhost:7070 -> localhost:7070
            tcp+tls:[::1]:7070 -> [::1]:7070
            udp:127.0.0.1:7071 -> udp:127.0.0.1:7071
            http://localhost:7072 -> http://localhost:7072/v1/events
            http://localhost -> http://localhost:80/v1/events
            https://tally.example/activity?x=1#y -> https://tally.example:443/activity?x=1
            https://[::1] -> https://[::1]:443/v1/events
        "#]]
        .assert_eq(&printed);
    }

    #[test]
    fn what_is_no_door_is_told_how_to_write_one() {
        let texts = [
            "/tmp/t.sock",
            "unix:",
            "tcp:7070",
            "tcp:host:",
            "tcp:::1:7070",
            "tcp:host:99999",
            "ftp://x",
            "http:x",
            "http://a@b",
        ];
        let told: String =
            texts.iter().map(|text| format!("{text}: {}\n", text.parse::<Door>().unwrap_err())).collect();
        expect![[r#"
            /tmp/t.sock: write unix:PATH, tcp:HOST:PORT, tcp+tls:HOST:PORT, udp:HOST:PORT, http://HOST:PORT or https://HOST:PORT, e.g. unix:/tmp/tally.sock
            unix:: the path of the socket is missing, e.g. /tmp/tally.sock
            tcp:7070: "7070" is not HOST:PORT, e.g. localhost:7070 or [::1]:7070
            tcp:host:: "host:" is not HOST:PORT, e.g. localhost:7070 or [::1]:7070
            tcp:::1:7070: "::1:7070" is not HOST:PORT, e.g. localhost:7070 or [::1]:7070
            tcp:host:99999: "host:99999" is not HOST:PORT, e.g. localhost:7070 or [::1]:7070
            ftp://x: write unix:PATH, tcp:HOST:PORT, tcp+tls:HOST:PORT, udp:HOST:PORT, http://HOST:PORT or https://HOST:PORT, e.g. unix:/tmp/tally.sock
            http:x: write http://HOST:PORT or https://HOST:PORT, not http:x
            http://a@b: give a token by --token-file, not in the address
        "#]].assert_eq(&told);
    }

    #[test]
    fn questions_go_to_a_socket_or_by_http() {
        let read = |text: &str| questions(text).map(|endpoint| endpoint.to_string());
        assert_eq!(read("unix:q"), Ok("q".to_string()));
        assert_eq!(read("/tmp/t.sock.query"), Ok("/tmp/t.sock.query".to_string()));
        assert_eq!(read("http://localhost:7073/"), Ok("localhost:7073".to_string()));
        for wrong in ["", "unix:", "tcp:localhost:7070", "http://localhost:7073/v1/status"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
