//! The text of `tally.toml`, and what the environment says: read, refused with reasons, or taken and shown.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tally_daemon::config::{ConfigError, KEYS, Sources, parse_duration, parse_size};
use tally_fuzz::{Input, folder};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut environment = Vec::new();
    for _ in 0..input.byte() % 4 {
        let key = KEYS[usize::from(input.byte()) % KEYS.len()].name.to_uppercase().replace('.', "_");
        environment.push((format!("TALLY_{key}"), String::from_utf8_lossy(input.short()).into_owned()));
    }
    let text = String::from_utf8_lossy(input.rest());
    if let Ok(duration) = parse_duration(&text) {
        assert!(duration.as_nanos() < u128::MAX);
    }
    let _ = parse_size(&text);

    let file: PathBuf = FOLDER.path().join("tally.toml");
    std::fs::write(&file, text.as_bytes()).expect("a file is written");
    let sources = Sources { file: Some(file), environment, flags: Vec::new() };
    match sources.load() {
        Err(ConfigError::Invalid { problems, .. }) => {
            assert!(!problems.is_empty(), "a refusal says why");
            assert!(problems.iter().all(|problem| !problem.text.is_empty()));
        }
        Err(error) => panic!("the file is there: {error}"),
        Ok(loaded) => {
            assert_eq!(sources.load().expect("taken once"), loaded, "the same text means the same");
            let shown = loaded.config.sections();
            assert!(shown.iter().all(|section| section.rows.iter().all(|row| !row.text.is_empty())));
            assert!(loaded.config.workers.parsers > 0 && loaded.config.limits.batch_rows > 0);
        }
    }
});
