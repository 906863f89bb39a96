//! Plugin files: good ones that differ in bytes alone, and bad ones of every kind with what has to be said of them. Must not know what is
//! done with them.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::{component, plugin, root};

/// Bytes and their digest.
#[derive(Clone, Debug)]
pub struct Version {
    /// The file.
    pub bytes: Vec<u8>,
    /// BLAKE3 of it, in hexadecimal.
    pub digest: String,
}

impl Version {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: blake3::hash(&bytes).to_hex().to_string(), bytes }
    }
}

/// A file that must not run in place of `video-actions`.
#[derive(Clone, Debug)]
pub struct Bad {
    /// What is wrong with it.
    pub name: &'static str,
    /// The file.
    pub version: Version,
    /// What the reason says, among other things.
    pub says: &'static str,
    /// It is written into the file that is there, as by somebody who copies slowly.
    pub is_in_place: bool,
    /// What is in the file once its writer is done.
    pub then: Option<Version>,
}

/// Makes them, no two with the same bytes.
pub struct Versions {
    actions: Vec<u8>,
    probe: Vec<u8>,
    homepage: Vec<u8>,
    traps: Vec<u8>,
    made: u64,
}

impl Versions {
    /// From what was built.
    pub fn of_what_is_built() -> Self {
        let read = |path| std::fs::read(path).expect("a component");
        Self {
            actions: read(plugin("video-actions")),
            probe: read(component("TALLY_FIXTURES_DIR", "fixtures", "probe")),
            homepage: read(plugin("homepage-fetch")),
            traps: traps(),
            made: 0,
        }
    }

    /// How many were made so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// A version of this plugin that does what all of them do.
    pub fn good(&mut self, name: &str) -> Version {
        let bytes = if name == "probe" { self.probe.clone() } else { self.actions.clone() };
        self.unlike(bytes)
    }

    /// A bad one; all kinds come in turn.
    pub fn bad(&mut self, number: usize) -> Bad {
        let whole = self.good("video-actions");
        let bad = |name, bytes, says| Bad { name, version: Version::new(bytes), says, is_in_place: false, then: None };
        let half = whole.bytes[..whole.bytes.len() / 2].to_vec();
        match number % 8 {
            0 => {
                let half = bad("half written", half, "not a usable WebAssembly component");
                Bad { is_in_place: true, then: Some(whole), ..half }
            }
            1 => bad("half of one", half, "not a usable WebAssembly component"),
            2 => {
                let version = self.unlike(self.traps.clone());
                Bad { version, ..bad("traps when it starts", Vec::new(), "unreachable") }
            }
            3 => {
                let version = self.unlike(self.homepage.clone());
                Bad { version, ..bad("does not load what is saved", Vec::new(), "load") }
            }
            4 => {
                let world = "tally:aggregator/aggregator@0.1.0";
                let bytes = renamed(&whole.bytes, world, "tally:aggregator/aggregator@0.2.0");
                bad("another world", bytes, "but this daemon speaks")
            }
            5 => bad("text", format!("no plugin {number}").into(), "it does not begin with"),
            6 => bad("empty", Vec::new(), "the file is empty"),
            _ => {
                let module = [&b"\0asm\x01\0\0\0"[..], &section(number as u64)].concat();
                bad("a core module", module, "it is a core module")
            }
        }
    }

    /// The component with a section at its end that nothing reads.
    fn unlike(&mut self, mut bytes: Vec<u8>) -> Version {
        self.made += 1;
        bytes.extend(section(self.made));
        Version::new(bytes)
    }
}

/// A custom section with a number in it.
fn section(number: u64) -> Vec<u8> {
    const NAME: &[u8] = b"number";
    let mut bytes = vec![0, (1 + NAME.len() + 8) as u8, NAME.len() as u8];
    bytes.extend(NAME);
    bytes.extend(number.to_le_bytes());
    bytes
}

/// A component in which a text stands instead of another of the same length, everywhere.
pub fn renamed(component: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = component.to_vec();
    let places: Vec<_> = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "{from} is not in the component");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// The plugin that is written by hand: it grows a table without end.
pub fn table_growth() -> Vec<u8> {
    by_hand(&std::fs::read_to_string(root().join("tests/fixtures/table-growth.wat")).expect("the text"))
}

/// The same, but for what it does when it is asked what it is.
fn traps() -> Vec<u8> {
    let text = std::fs::read_to_string(root().join("tests/fixtures/table-growth.wat")).expect("the text");
    let describes = "#describe\") (result i32) (i32.const 1104))";
    assert_eq!(text.matches(describes).count(), 1, "where it is asked what it is");
    by_hand(&text.replace(describes, "#describe\") (result i32) (unreachable))"))
}

/// A component of a core module in text.
fn by_hand(text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).expect("the text is WebAssembly");
    let mut wit = wit_parser::Resolve::default();
    let (package, _) = wit.push_dir(root().join("wit/0.1.0")).expect("the contract");
    let world = wit.select_world(&[package], Some("plugin")).expect("its world");
    embed_component_metadata(&mut module, &wit, world, StringEncoding::UTF8).expect("the world fits into the module");
    let encoder = ComponentEncoder::default().module(&module).expect("the module fits the world");
    encoder.validate(true).encode().expect("a component")
}
