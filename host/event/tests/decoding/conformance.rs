//! RFC 8259 by the JSON conformance corpus (tests/hostile/json), each document inside an event's fields, and by damaged
//! documents whose verdict must be serde_json's.

use serde::de::IgnoredAny;
use std::path::Path;
use std::sync::Arc;
use tally_event::decode::{Decoder, Mode, RejectReason};
use tally_event::plan::{Limits, Plan, Subscriber};
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering, Preset};

/// Documents by name, those too large to keep as files included.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile/json");
    let mut documents: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .expect("the corpus")
        .filter_map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
            Some((name, std::fs::read(&path).expect("a document")))
        })
        .collect();
    documents.push(("n_structure_100000_opening_arrays".into(), vec![b'['; 100_000]));
    documents.push(("n_structure_open_array_object".into(), b"[{\"\":".repeat(50_000)));
    documents.sort();
    documents
}

/// Decodes by a plan in which the field `/x` is what one subscriber reads, or nobody's.
struct Judge(Decoder);

impl Judge {
    fn new(kind: Option<Kind>) -> Self {
        let field = kind.map(|kind| Field { path: "/x".into(), kind });
        let event_type = EventType { name: "e".into(), required: vec![], optional: field.iter().map(|_| 0).collect() };
        let manifest = Manifest {
            fields: field.into_iter().collect(),
            event_types: vec![event_type],
            ordering: Ordering::Commutative,
            state_version: "1".into(),
            loads: vec![],
            refusals: vec![],
        };
        let subscribers = vec![Subscriber { name: "a".into(), manifest: Arc::new(manifest) }];
        let plan = Plan::new(subscribers, vec![Preset::default()], Limits::default()).expect("a plan");
        Self(Decoder::new(Arc::new(plan)))
    }

    /// Why the line is no event; none when it is one.
    fn verdict(&mut self, line: &[u8]) -> Option<RejectReason> {
        let pushed = self.0.push(0, line, Mode::Admit);
        self.0.finish();
        assert_eq!(pushed.lines, 1, "one line");
        pushed.rejects.first().map(|reject| reject.reason)
    }
}

/// The document as the last field, and before another one. A newline between tokens is white space that a line cannot
/// have; anything else that a newline does to a document it does as a tab as well.
fn lines(document: &[u8]) -> [Vec<u8>; 2] {
    let document: Vec<u8> = document.iter().map(|&byte| if byte == b'\n' { b'\t' } else { byte }).collect();
    [
        [&b"{\"type\":\"e\",\"x\":"[..], &document, b"}"].concat(),
        [b"{\"x\":", &document[..], b",\"type\":\"e\"}"].concat(),
    ]
}

/// Reasons that say the JSON is at fault; a field that cannot hold a value is another matter.
fn is_json_fault(reason: RejectReason) -> bool {
    matches!(
        reason,
        RejectReason::InvalidJson | RejectReason::InvalidUtf8 | RejectReason::TooDeep | RejectReason::NotAnObject
    )
}

#[test]
fn the_corpus_is_accepted_exactly_where_rfc_8259_says_so() {
    let documents = corpus();
    assert!(documents.len() >= 318, "the corpus is whole: {}", documents.len());
    let kinds = [
        None,
        Some(Kind::Json),
        Some(Kind::Text),
        Some(Kind::Integer),
        Some(Kind::Float),
        Some(Kind::Boolean),
        Some(Kind::Decimal(2)),
        Some(Kind::Timestamp),
    ];
    let mut judges: Vec<_> = kinds.into_iter().map(Judge::new).collect();
    for (name, document) in &documents {
        for line in lines(document) {
            let verdicts: Vec<_> = judges.iter_mut().map(|judge| judge.verdict(&line)).collect();
            let valid = match name.as_bytes()[0] {
                b'y' => true,
                b'n' => false,
                _ => {
                    // Numbers and escaped surrogates are JSON; what is no UTF-8, a byte order mark and depth are not taken.
                    name.starts_with("i_number")
                        || (name.contains("surrogate") && std::str::from_utf8(document).is_ok())
                }
            };
            for (verdict, kind) in verdicts.iter().zip(kinds) {
                match verdict {
                    Some(reason) if is_json_fault(*reason) => assert!(!valid, "{name}, {kind:?}: {reason}"),
                    Some(RejectReason::RefusedByAll) => assert!(valid && kind.is_some(), "{name}, {kind:?}: refused"),
                    Some(reason) => panic!("{name}, {kind:?}: {reason}"),
                    None => assert!(valid, "{name}, {kind:?}: accepted"),
                }
            }
            // What nobody reads is checked by the same rules as what somebody does.
            assert_eq!(verdicts[0], verdicts[1], "{name}");
        }
    }
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// Pieces that JSON is made of, and that spoil it.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "d800",
    "\\uDC00",
    "00",
    "0",
    "-",
    "1",
    "9",
    ".",
    "e",
    "E",
    "+",
    "true",
    "false",
    "null",
    "\"a\":",
    "\"\":",
    "\"b\"",
    " ",
    "\t",
    "\r",
    "\u{0}",
    "\u{1f}",
    "\u{7f}",
    "\u{a0}",
    "\u{feff}",
    "x",
    "/",
    "'",
    "NaN",
    "é",
    "\u{2028}",
    "1e400",
    "-0",
    "123456789012345678901234567890",
    "[[",
    "]]",
    "{\"k\":",
];

#[test]
fn damaged_documents_have_serde_jsons_verdict() {
    const CASES: usize = 300_000;
    let documents: Vec<_> = corpus().into_iter().filter(|(_, document)| document.len() < 400).collect();
    let mut judge = Judge::new(Some(Kind::Json));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut valid, mut invalid) = (0, 0);
    for _ in 0..CASES {
        let mut document = match random.below(3) {
            0 => (0..random.below(12)).map(|_| PIECES[random.below(PIECES.len())]).collect::<String>().into_bytes(),
            _ => documents[random.below(documents.len())].1.clone(),
        };
        for _ in 0..random.below(3) {
            let at = random.below(document.len() + 1);
            let end = (at + random.below(4)).min(document.len());
            let piece: &[u8] = match random.below(8) {
                0 => &[random.below(256) as u8],
                1 => &[],
                _ => PIECES[random.below(PIECES.len())].as_bytes(),
            };
            document.splice(at..end, piece.iter().copied());
        }
        for line in lines(&document) {
            let text = std::str::from_utf8(&line);
            let expected = text.is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
            let verdict = judge.verdict(&line);
            // A document may close the event and begin another member of it: a type, say.
            let found = verdict.is_none_or(|reason| !is_json_fault(reason));
            if verdict == Some(RejectReason::TooDeep) {
                continue;
            }
            assert_eq!(found, expected, "{verdict:?}: {:?}", String::from_utf8_lossy(&line));
            *if expected { &mut valid } else { &mut invalid } += 1;
        }
    }
    assert!(valid > CASES / 10 && invalid > CASES / 10, "both kinds: {valid}, {invalid}");
}
