//! A look at the files that a configuration names: what would go wrong later, or be odd. Reads no file's content.

use std::os::unix::fs::PermissionsExt;

use super::{Config, KEYS, Value};

/// Warnings about files and folders that are missing or open to others, one line each.
pub fn inspect(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.plugins_dir.is_dir() {
        for aggregator in &config.aggregators {
            let file = config.plugins_dir.join(format!("{}.wasm", aggregator.plugin));
            if !file.is_file() {
                let place = config.defined.get(&format!("aggregator.{}", aggregator.name));
                let place = place.map(|origin| format!("{origin}: ")).unwrap_or_default();
                warnings.push(format!(
                    "{place}aggregator.{}: there is no {}; put the plugin there, or correct `plugin`",
                    aggregator.name,
                    file.display()
                ));
            }
        }
    } else {
        let text = "is no folder; create it, or set plugins_dir";
        warnings.push(format!("{}plugins_dir: {} {text}", place(config, "plugins_dir"), config.plugins_dir.display()));
    }
    for key in KEYS.iter().filter(|key| key.secret || key.name.ends_with(".tls_cert")) {
        let Some(Value::Path(path)) = config.settings.value(key.name) else { continue };
        let place = place(config, key.name);
        match std::fs::metadata(path) {
            Err(error) => warnings.push(format!("{place}{}: {}: {error}", key.name, path.display())),
            Ok(metadata) if key.secret && metadata.permissions().mode() & 0o077 != 0 => {
                let mode = metadata.permissions().mode() & 0o777;
                let path = path.display();
                warnings
                    .push(format!("{place}{}: {path} can be read by others (mode {mode:04o}); chmod 600 it", key.name));
            }
            Ok(_) => {}
        }
    }
    warnings
}

/// `tally.toml:7: `, or nothing for a default.
fn place(config: &Config, key: &str) -> String {
    match config.settings.origin(key) {
        super::Origin::Default => String::new(),
        origin => format!("{origin}: "),
    }
}
