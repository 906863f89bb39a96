//! Lines that are refused somewhere, and what each is for. The reasons are those that a daemon running `video-actions`
//! and `homepage-fetch` gives; the counts of `tests/oracle/count.py` rest on reading the lines, not on this table.

use super::random::{Purpose, below};
use super::workload::Line;

/// One line in this many invalid ones is longer than any line may be.
const TOO_LONG_EVERY: u32 = 8192;
/// More than the limit of 1 MiB.
const TOO_LONG: usize = (1 << 20) + 1000;
/// More than the limit of 64.
const TOO_DEEP: usize = 70;

/// Writes one faulty line.
type Fault = fn(&Line, &mut Vec<u8>);

/// Every way to be invalid, with the reason it is rejected for.
pub const INVALID: [(&str, Fault); 20] = [
    ("invalid_json", |line, to| {
        line.action(to);
        to.truncate(to.len() - 2);
    }),
    ("invalid_json", |line, to| {
        line.head("action", to);
        to.extend_from_slice(b"\",}");
    }),
    ("invalid_json", |line, to| with(line, "user_name", b"nobody", to)),
    ("invalid_json", |line, to| with(line, "note", b"\"a\tb\"", to)),
    ("invalid_json", |line, to| with(line, "note", br#""\x41""#, to)),
    ("invalid_json", |line, to| with(line, "count", b"007", to)),
    ("invalid_json", |line, to| {
        line.action(to);
        to.push(b' ');
        line.action(to);
    }),
    ("invalid_utf8", |line, to| with(line, "note", b"\"\xff\xfe\"", to)),
    ("too_deep", |line, to| {
        with(line, "deep", &[[b'['; TOO_DEEP], [b']'; TOO_DEEP]].concat(), to);
    }),
    ("not_an_object", |_, to| to.extend_from_slice(br#"["action","view"]"#)),
    ("not_an_object", |_, to| to.extend_from_slice(b"42")),
    ("missing_type", |line, to| typed(line, None, to)),
    ("missing_type", |line, to| typed(line, Some(b"null"), to)),
    ("invalid_type", |line, to| typed(line, Some(b"7"), to)),
    ("invalid_type", |line, to| typed(line, Some(b"\"\""), to)),
    ("invalid_timestamp", |line, to| timed(line, b"\"yesterday\"", to)),
    ("invalid_timestamp", |line, to| timed(line, b"\"2026-02-30T10:00:00Z\"", to)),
    ("invalid_timestamp", |line, to| timed(line, b"1769508000", to)),
    ("refused_by_all", |line, to| user(line, None, to)),
    ("refused_by_all", |line, to| user(line, Some(b"12345"), to)),
];

/// A line that is rejected.
pub fn invalid(line: &Line, to: &mut Vec<u8>) {
    let bits = line.draws.get(Purpose::Detail);
    if below(bits as u32, TOO_LONG_EVERY) == 0 {
        let filler = vec![b'x'; TOO_LONG];
        return with(line, "filler", &[b"\"", &filler[..], b"\""].concat(), to);
    }
    let (_, fault) = INVALID[below((bits >> 32) as u32, INVALID.len() as u32) as usize];
    fault(line, to);
}

/// An event that is accepted and that nobody asked for.
pub fn unsubscribed(line: &Line, to: &mut Vec<u8>) {
    match line.draws.get(Purpose::Detail) >> 32 & 3 {
        0 => {
            line.head("scroll", to);
            to.extend_from_slice(b"\",\"depth_percent\":75,\"direction\":\"down\"}");
        }
        1 => {
            line.head("search", to);
            to.extend_from_slice(b"\",\"query\":\"moving \\\"pictures\\\"\",\"results\":[1,2,3]}");
        }
        2 => {
            line.head("login", to);
            to.extend_from_slice(b"\",\"method\":\"password\",\"device\":{\"os\":\"linux\",\"known\":true}}");
        }
        // Looks like an action; only its type differs.
        _ => {
            line.head("action_preview", to);
            to.extend_from_slice(b"\",\"resource_type\":\"posts:");
            to.extend_from_slice(&line.post);
            to.extend_from_slice(b"\",\"action\":\"view\"}");
        }
    }
}

/// An action that is accepted and that `video-actions` refuses: `unknown_action`, `resource`, `resource`.
pub fn refused(line: &Line, to: &mut Vec<u8>) {
    let (resource, id, action) = match below((line.draws.get(Purpose::Detail) >> 32) as u32, 3) {
        0 => ("posts:", &line.post[..], "rewind"),
        1 => ("users:", &line.user[..], line.action),
        _ => ("posts:", &b""[..], line.action),
    };
    line.head("action", to);
    to.extend_from_slice(b"\",\"resource_type\":\"");
    to.extend_from_slice(resource.as_bytes());
    to.extend_from_slice(id);
    to.extend_from_slice(b"\",\"action\":\"");
    to.extend_from_slice(action.as_bytes());
    to.extend_from_slice(b"\"}");
}

/// An action with one more member, whose value is written as it is.
fn with(line: &Line, name: &str, value: &[u8], to: &mut Vec<u8>) {
    rest(
        line,
        br#""type":"action","#,
        Some((name, value)),
        &quoted(&line.timestamp),
        Some(&quoted(&user_id(line))),
        to,
    );
}

/// An action whose type is absent or as given.
fn typed(line: &Line, value: Option<&[u8]>, to: &mut Vec<u8>) {
    let head = value.map_or(Vec::new(), |value| [b"\"type\":", value, b","].concat());
    rest(line, &head, None, &quoted(&line.timestamp), Some(&quoted(&user_id(line))), to);
}

/// An action whose timestamp is as given.
fn timed(line: &Line, value: &[u8], to: &mut Vec<u8>) {
    rest(line, br#""type":"action","#, None, value, Some(&quoted(&user_id(line))), to);
}

/// An action whose user is absent or as given.
fn user(line: &Line, value: Option<&[u8]>, to: &mut Vec<u8>) {
    rest(line, br#""type":"action","#, None, &quoted(&line.timestamp), value, to);
}

fn rest(
    line: &Line,
    head: &[u8],
    extra: Option<(&str, &[u8])>,
    timestamp: &[u8],
    user: Option<&[u8]>,
    to: &mut Vec<u8>,
) {
    to.push(b'{');
    to.extend_from_slice(head);
    to.extend_from_slice(b"\"timestamp\":");
    to.extend_from_slice(timestamp);
    if let Some(user) = user {
        to.extend_from_slice(b",\"user_id\":");
        to.extend_from_slice(user);
    }
    if let Some((name, value)) = extra {
        to.extend_from_slice(b",\"");
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(b"\":");
        to.extend_from_slice(value);
    }
    to.extend_from_slice(b",\"resource_type\":\"posts:");
    to.extend_from_slice(&line.post);
    to.extend_from_slice(b"\",\"action\":\"");
    to.extend_from_slice(line.action.as_bytes());
    to.extend_from_slice(b"\"}");
}

fn user_id(line: &Line) -> Vec<u8> {
    [b"u_", &line.user[..]].concat()
}

fn quoted(text: &[u8]) -> Vec<u8> {
    [b"\"", text, b"\""].concat()
}
