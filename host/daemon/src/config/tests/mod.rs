//! What a configuration gives, and what its mistakes are answered with.

mod doors;
mod file;
mod layers;
mod lists;
mod reload;
mod table;
mod units;

use std::path::PathBuf;

use expect_test::Expect;

use super::{Config, ConfigError, Flag, Loaded, Sources};

/// The keys without a default, and a source.
const LEAST: &str = "data_dir = 'data'\nplugins_dir = 'plugins'\nunix.path = '/run/t.sock'\n";

fn sources() -> Sources {
    Sources { file: Some(PathBuf::from("/etc/tally/tally.toml")), ..Sources::default() }
}

fn load(text: &str) -> Result<Loaded, ConfigError> {
    sources().read(Some(&format!("{LEAST}{text}\n")))
}

/// What a file gives that has the keys without a default, and this.
fn config(text: &str) -> Config {
    load(text).unwrap_or_else(|error| panic!("{text:?} was not taken: {error}")).config
}

fn fails(text: &str, expected: Expect) {
    match load(text) {
        Ok(loaded) => panic!("taken: {:?}", loaded.config),
        Err(error) => expected.assert_eq(&error.to_string().replace("/etc/tally/", "")),
    }
}

fn warns(text: &str, expected: Expect) {
    match load(text) {
        Ok(loaded) => expected.assert_eq(&loaded.warnings.join("\n").replace("/etc/tally/", "")),
        Err(error) => panic!("{text:?} was not taken: {error}"),
    }
}

fn flag(flag: &str, key: &str, value: &str) -> Flag {
    Flag { flag: flag.to_string(), key: key.to_string(), value: value.to_string() }
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_string(), value.to_string())
}
