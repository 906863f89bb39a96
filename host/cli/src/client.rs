//! Questions to a daemon: where its query or admin door is, and one request with its answer. Knows no route.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Method;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::address::{self, Endpoint};
use crate::connect::Access;
use crate::http::{Answer, Client, Failure};
use crate::outcome::Usage;

/// What an answer may take on top of what the question asked to wait.
const PATIENCE: Duration = Duration::from_secs(120);
/// The configuration file that is looked for where none is named.
const CONFIG: &str = "tally.toml";

/// Where to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// The daemon's query or admin socket, as PATH, or http(s)://HOST:PORT
    ///
    /// Without it: the environment's TALLY_QUERY_SOCKET (TALLY_ADMIN_SOCKET for changes) or TALLY_UNIX_PATH, then the
    /// configuration file named by TALLY_CONFIG, then ./tally.toml.
    #[arg(long = "to", value_name = "ADDRESS", value_parser = address::questions)]
    to: Option<Endpoint>,
    #[command(flatten)]
    access: Access,
}

/// Which of the daemon's doors a question goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Query,
    Admin,
}

impl Target {
    /// `GET path` as JSON; `path` has its parameters encoded already.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Door::Query, Method::GET, path)?.json()
    }

    /// `GET path` as it is.
    pub fn get_text(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.ask(Door::Query, Method::GET, path)?;
        String::from_utf8(answer.body.into()).context("the daemon's answer is not UTF-8")
    }

    /// `POST path` without a body, at the admin door.
    pub fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Door::Admin, Method::POST, path)?.json()
    }

    /// A client of the query door, for whoever asks again and again.
    pub fn client(&self, patience: Duration) -> anyhow::Result<(Endpoint, Client)> {
        self.client_of(Door::Query, patience)
    }

    fn client_of(&self, door: Door, patience: Duration) -> anyhow::Result<(Endpoint, Client)> {
        let endpoint = match &self.to {
            Some(endpoint) => endpoint.clone(),
            None => Surroundings::real().find(door)?,
        };
        Ok((endpoint.clone(), Client::new(endpoint, self.access.clone(), patience)?))
    }

    fn ask(&self, door: Door, method: Method, path: &str) -> anyhow::Result<Answer> {
        let (_, mut client) = self.client_of(door, PATIENCE)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(client.ask(method, path, &[], Bytes::new())).map_err(Failure::into_error)?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => bail!("{}", answer.problem()),
        }
    }
}

/// What tells where the daemon is when the command line does not.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<PathBuf>,
    folder: &'a Path,
}

/// The keys of the configuration file that say where the doors for questions are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Doors {
    unix: Unix,
    query: Socket,
    admin: Socket,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Unix {
    path: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Socket {
    socket: Option<PathBuf>,
}

impl Surroundings<'_> {
    /// Those of this process.
    fn real() -> Surroundings<'static> {
        let variable = &|name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Surroundings { variable, folder: Path::new("") }
    }

    fn find(&self, door: Door) -> anyhow::Result<Endpoint> {
        let (own, suffix) = match door {
            Door::Query => ("TALLY_QUERY_SOCKET", ".query"),
            Door::Admin => ("TALLY_ADMIN_SOCKET", ".admin"),
        };
        if let Some(address) = (self.variable)(own) {
            let read = address::questions(&address.to_string_lossy());
            return read.map_err(|problem| Usage(anyhow::anyhow!("{own}: {problem}")).into());
        }
        if let Some(path) = (self.variable)("TALLY_UNIX_PATH") {
            return Ok(Endpoint::Unix(with_suffix(path, suffix)));
        }
        self.configured(door, suffix)
    }

    fn configured(&self, door: Door, suffix: &str) -> anyhow::Result<Endpoint> {
        let named = (self.variable)("TALLY_CONFIG");
        let file = named.clone().unwrap_or_else(|| self.folder.join(CONFIG));
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(_) if named.is_none() => return Err(Usage(nowhere("there is no ./tally.toml")).into()),
            Err(error) => {
                let what = format!("cannot read the configuration {} (named by TALLY_CONFIG)", file.display());
                return Err(Usage(anyhow::Error::new(error).context(what)).into());
            }
        };
        let doors: Doors = toml::from_str(&text)
            .map_err(|error| Usage(anyhow::anyhow!("cannot read {}: {}", file.display(), error.message())))?;
        let own = match door {
            Door::Query => doors.query.socket,
            Door::Admin => doors.admin.socket,
        };
        let path = own.or_else(|| doors.unix.path.map(|path| with_suffix(path, suffix)));
        let path = path.ok_or_else(|| Usage(nowhere(&format!("{} names no socket", file.display()))))?;
        // What stands in the file is relative to it.
        Ok(Endpoint::Unix(file.parent().unwrap_or(Path::new("")).join(path)))
    }
}

fn nowhere(problem: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "where is the daemon? Give --to PATH (its query socket, e.g. /tmp/tally.sock.query) or --to http://HOST:PORT, or set \
         TALLY_QUERY_SOCKET, or TALLY_CONFIG to its configuration file; {problem}"
    )
}

fn with_suffix(path: PathBuf, suffix: &str) -> PathBuf {
    let mut path = path.into_os_string();
    path.push(suffix);
    path.into()
}

/// Encodes a piece of a path or a parameter's value.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A path with these parameters, after those it may have.
pub fn with_parameters(path: String, parameters: &[(String, String)]) -> String {
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    let mark = if path.contains('?') { '&' } else { '?' };
    match pairs.is_empty() {
        true => path,
        false => format!("{path}{mark}{}", pairs.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_url_is_encoded() {
        assert_eq!(encode("a-b_c.d~9"), "a-b_c.d~9");
        assert_eq!(encode("a/b?c=d&é %"), "a%2Fb%3Fc%3Dd%26%C3%A9%20%25");
    }

    #[test]
    fn a_socket_nobody_listens_on_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("q");
        let target = Target { to: Some(Endpoint::Unix(socket.clone())), access: Access::default() };
        let missing = format!("{:#}", target.get("/").unwrap_err());
        assert!(missing.contains("there is no such socket; start the daemon"), "{missing}");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let refused = format!("{:#}", target.get("/").unwrap_err());
        assert!(refused.contains("no daemon listens there"), "{refused}");
    }

    /// Where query and admin door are found, in a folder with `config` as tally.toml.
    fn found(variables: &[(&str, &str)], config: Option<&str>) -> [String; 2] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = config {
            std::fs::write(folder.path().join(CONFIG), text).unwrap();
        }
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value));
        let surroundings = Surroundings { variable: &variable, folder: folder.path() };
        let within = folder.path().display().to_string() + "/";
        [Door::Query, Door::Admin].map(|door| match surroundings.find(door) {
            Ok(endpoint) => endpoint.to_string().replace(&within, "here/"),
            Err(error) => format!("{error}"),
        })
    }

    #[test]
    fn the_daemon_is_found_by_the_environment_then_by_its_configuration() {
        let config = Some("[unix]\npath = \"t.sock\"\n[flush]\nevents = 1\n");
        let unix = ("TALLY_UNIX_PATH", "/run/u");
        assert_eq!(found(&[unix, ("TALLY_QUERY_SOCKET", "http://h:1")], config), ["h:1", "/run/u.admin"]);
        assert_eq!(found(&[unix], config), ["/run/u.query", "/run/u.admin"]);
        assert_eq!(found(&[], config), ["here/t.sock.query", "here/t.sock.admin"]);
        let sockets = "[query]\nsocket = \"/q\"\n[admin]\nsocket = \"a\"\n";
        assert_eq!(found(&[], Some(sockets)), ["/q", "here/a"]);
    }

    #[test]
    fn a_daemon_that_cannot_be_found_is_asked_for() {
        for (variables, config, problem) in [
            (&[][..], None, "there is no ./tally.toml"),
            (&[], Some(""), "names no socket"),
            (&[], Some("[unix"), "cannot read"),
            (&[("TALLY_CONFIG", "/none.toml")], None, "named by TALLY_CONFIG"),
            (&[("TALLY_QUERY_SOCKET", "tcp:a:1")], None, "that is a door for events"),
        ] {
            let told = &found(variables, config)[0];
            assert!(told.contains(problem), "{told}");
        }
    }
}
