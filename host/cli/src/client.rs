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
    /// Without it, what the daemon's own settings say: those in the environment (TALLY_QUERY_SOCKET, TALLY_ADMIN_SOCKET,
    /// TALLY_UNIX_PATH, TALLY_DATA_DIR), then those in the file named by TALLY_CONFIG, or else in ./tally.toml.
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
        self.ask(Door::Query, Method::GET, path, Bytes::new())?.json()
    }

    /// `GET path` as it is.
    pub fn get_text(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.ask(Door::Query, Method::GET, path, Bytes::new())?;
        String::from_utf8(answer.body.into()).context("the daemon's answer is not UTF-8")
    }

    /// `POST path` without a body, at the admin door.
    pub fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.send(path, Bytes::new())
    }

    /// The same with a body.
    pub fn send(&self, path: &str, body: Bytes) -> anyhow::Result<Value> {
        self.ask(Door::Admin, Method::POST, path, body)?.json()
    }

    /// `DELETE path`, at the admin door.
    pub fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Door::Admin, Method::DELETE, path, Bytes::new())?.json()
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

    fn ask(&self, door: Door, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let (_, mut client) = self.client_of(door, PATIENCE)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(client.ask(method, path, &[], body)).map_err(Failure::into_error)?;
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

/// The keys of the configuration that say where the doors for questions are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Doors {
    data_dir: Option<PathBuf>,
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

impl Doors {
    /// Where the door is, by the daemon's own rule.
    fn path(self, door: Door) -> Option<PathBuf> {
        let (socket, suffix) = match door {
            Door::Query => (self.query.socket, ".query"),
            Door::Admin => (self.admin.socket, ".admin"),
        };
        let base = || self.unix.path.or_else(|| self.data_dir.map(|folder| folder.join("tally.sock")));
        socket.or_else(|| base().map(|path| with_suffix(path, suffix)))
    }
}

impl Surroundings<'_> {
    /// Those of this process.
    fn real() -> Surroundings<'static> {
        let variable = &|name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Surroundings { variable, folder: Path::new("") }
    }

    fn find(&self, door: Door) -> anyhow::Result<Endpoint> {
        let own = match door {
            Door::Query => "TALLY_QUERY_SOCKET",
            Door::Admin => "TALLY_ADMIN_SOCKET",
        };
        if let Some(address) = (self.variable)(own) {
            let read = address::questions(&address.to_string_lossy());
            return read.map_err(|problem| Usage(anyhow::anyhow!("{own}: {problem}")).into());
        }
        let (path, data_dir) = ((self.variable)("TALLY_UNIX_PATH"), (self.variable)("TALLY_DATA_DIR"));
        let named = (self.variable)("TALLY_CONFIG");
        // A file that happens to lie here is asked only when nothing else tells.
        let told = path.is_some() || data_dir.is_some();
        let (mut doors, problem) = match named.or_else(|| (!told).then(|| self.folder.join(CONFIG))) {
            Some(file) => self.read(&file)?,
            None => (Doors::default(), String::new()),
        };
        doors.unix.path = path.or(doors.unix.path);
        doors.data_dir = data_dir.or(doors.data_dir);
        doors.path(door).map(Endpoint::Unix).ok_or_else(|| Usage(nowhere(&problem)).into())
    }

    /// What the configuration says, and what to say when that is not enough. What stands in a file is relative to it.
    fn read(&self, file: &Path) -> anyhow::Result<(Doors, String)> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(_) if *file == self.folder.join(CONFIG) => {
                return Ok((Doors::default(), "there is no ./tally.toml".to_string()));
            }
            Err(error) => {
                let what = format!("cannot read the configuration {} (named by TALLY_CONFIG)", file.display());
                return Err(Usage(anyhow::Error::new(error).context(what)).into());
            }
        };
        let mut doors: Doors = toml::from_str(&text)
            .map_err(|error| Usage(anyhow::anyhow!("cannot read {}: {}", file.display(), error.message())))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let paths = [&mut doors.data_dir, &mut doors.unix.path, &mut doors.query.socket, &mut doors.admin.socket];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
        Ok((doors, format!("{} names no socket and no data directory", file.display())))
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
        assert_eq!(found(&[], Some("data_dir = \"d\"")), ["here/d/tally.sock.query", "here/d/tally.sock.admin"]);
        assert_eq!(found(&[("TALLY_DATA_DIR", "/d")], config)[0], "/d/tally.sock.query");
    }

    #[test]
    fn a_daemon_that_cannot_be_found_is_asked_for() {
        for (variables, config, problem) in [
            (&[][..], None, "there is no ./tally.toml"),
            (&[], Some(""), "tally.toml names no socket"),
            (&[], Some("[unix"), "cannot read"),
            (&[("TALLY_CONFIG", "/none.toml")], None, "named by TALLY_CONFIG"),
            (&[("TALLY_QUERY_SOCKET", "tcp:a:1")], None, "that is a door for events"),
        ] {
            let told = &found(variables, config)[0];
            assert!(told.contains(problem), "{told}");
        }
    }
}
