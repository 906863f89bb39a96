//! Who may come in: user and group lists for Unix sockets, a token and `Host` names for TCP. Must not know: what they come for.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::socket::Peer;

/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;

/// Users and groups that may connect to a Unix socket. Both lists empty: everybody whom the file's permissions let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    /// Users, by number.
    pub uids: Vec<u32>,
    /// Groups, by number; the group that the process connected with counts, not its supplementary ones.
    pub gids: Vec<u32>,
}

impl AllowList {
    /// True when `peer` may come in. A TCP peer always may: tokens guard those doors.
    pub fn allows(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Unix { uid, gid, .. } => {
                (self.uids.is_empty() && self.gids.is_empty()) || self.uids.contains(uid) || self.gids.contains(gid)
            }
            Peer::Tcp(_) => true,
        }
    }
}

/// A shared secret. Kept as its BLAKE3 hash, so that neither a dump nor the time of a comparison tells anything of it.
#[derive(Clone)]
pub struct Token(blake3::Hash);

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Its file cannot be read.
    #[error("cannot read the token file {}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is empty, too long, or has bytes that no header can carry.
    #[error("the token in {} must be one line of 1 to {MAX_TOKEN_BYTES} printable ASCII characters without spaces", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// Reads it from a file, without the white space around it.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read(path).map_err(|error| TokenError::File { path: path.into(), error })?;
        let token = text.trim_ascii();
        if !(1..=MAX_TOKEN_BYTES).contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Unusable { path: path.into() });
        }
        Ok(Self(blake3::hash(token)))
    }

    /// True when `given` is the token. Takes the same time wherever they differ: hashes are compared, in constant time.
    pub fn matches(&self, given: &[u8]) -> bool {
        // The comparison of two hashes is constant-time by blake3's promise.
        blake3::hash(given) == self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The names by which a TCP door may be called. A page in a browser can make a name of its own point at 127.0.0.1 (DNS rebinding); the `Host`
/// header still carries that name.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// `localhost` and literal IP addresses, which no foreign page can have for a name, and these.
    pub fn new(extra: &[String]) -> Self {
        Self(extra.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// True when the `Host` header's value may be used. The port does not matter.
    pub fn allows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.0.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Result<Token, TokenError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, text).expect("written");
        Token::load(&path)
    }

    #[test]
    fn a_token_matches_itself_alone() {
        let token = token("  s3cret\n").expect("fine");
        assert!(token.matches(b"s3cret"));
        for other in ["", "s3cre", "s3cret ", "S3cret", "s3crets"] {
            assert!(!token.matches(other.as_bytes()), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn tokens_that_no_header_carries_are_refused() {
        for text in ["", " \n", "two words", "two\nlines", "na\u{ef}ve", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            assert!(matches!(token(text), Err(TokenError::Unusable { .. })), "{text:?}");
        }
    }

    #[test]
    fn hosts_are_addresses_localhost_and_what_was_listed() {
        let hosts = Hosts::new(&["Stats.Example.org".into()]);
        for host in
            ["localhost", "LOCALHOST:80", "127.0.0.1:7072", "[::1]:7072", "[::1]", "stats.example.org:1", "10.1.2.3"]
        {
            assert!(hosts.allows(host), "{host}");
        }
        for host in ["", "example.org", "evil.example.org:7072", "localhost.evil.org", "127.0.0.1.evil.org"] {
            assert!(!hosts.allows(host), "{host}");
        }
    }

    #[test]
    fn lists_let_in_whom_they_name() {
        let peer = |uid, gid| Peer::Unix { pid: None, uid, gid };
        let list = AllowList { uids: vec![7], gids: vec![8] };
        assert!(list.allows(&peer(7, 1)) && list.allows(&peer(1, 8)) && !list.allows(&peer(8, 7)));
        assert!(AllowList::default().allows(&peer(1, 1)));
    }
}
