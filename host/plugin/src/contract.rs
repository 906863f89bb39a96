//! Whether a component fits the contract, said in words: which import or export differs and what to do about it.
//! A linker's "no matching implementation" tells a plugin author nothing.

use crate::error::PluginError;
use wasmtime::component::Component;
use wasmtime::component::types::{ComponentInstance, ComponentItem};

/// The contract as released; patch versions of it are interchangeable.
pub(crate) const NAME: &str = "tally:aggregator@0.1.0";
const PACKAGE: &str = "tally:aggregator";
const SERIES: &str = "0.1";

/// The optional interface that is called after `configure` where a component exports it.
pub(crate) const SELFCHECK: &str = "tally:aggregator/selfcheck@0.1.0";

/// The optional interface that says by what rows may be dealt to several accumulators.
pub(crate) const SHARDS: &str = "tally:aggregator/shards@0.1.0";

/// Every function of the exported interface `aggregator`, by the names that components give them.
const FUNCTIONS: [&str; 8] = [
    "describe",
    "configure",
    "[constructor]accumulator",
    "[method]accumulator.apply",
    "[method]accumulator.merge",
    "[method]accumulator.save",
    "[static]accumulator.load",
    "[method]accumulator.report",
];

/// Whether the bytes look like a component, before anything is made of them.
pub(crate) fn check_form(bytes: &[u8]) -> Result<(), PluginError> {
    let problem = match bytes.get(..8) {
        None => "the file is empty or ends within the first eight bytes; was it still being written?",
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => return Ok(()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            "it is a core module; link it as a component (`wasm-component-ld`, or `wasm-tools component new`)"
        }
        Some([0, b'a', b's', b'm', ..]) => "it is WebAssembly of a version this daemon does not know",
        Some([0x7f, b'E', b'L', b'F', ..]) => "it is compiled for a machine (ELF); only portable components are taken",
        Some(_) => "it does not begin with `\\0asm`, as WebAssembly does",
    };
    Err(PluginError::NotAComponent(problem.into()))
}

/// Whether the component asks for `log` at most, and exports what the host calls.
pub(crate) fn check(engine: &wasmtime::Engine, component: &Component) -> Result<(), PluginError> {
    let ty = component.component_type();
    for (name, import) in ty.imports(engine) {
        check_import(engine, name, &import.ty)?;
    }
    let mut seen = Vec::new();
    for (name, export) in ty.exports(engine) {
        match (interface(name), export.ty) {
            (Some(("aggregator", SERIES)), ComponentItem::ComponentInstance(instance)) => {
                return check_functions(engine, &instance);
            }
            _ => seen.push(name),
        }
    }
    let other = |name: &&&str| name.starts_with("tally:") && ![SELFCHECK, SHARDS].contains(*name);
    problem(match seen.iter().find(other) {
        Some(name) => format!("it exports `{name}`, but this daemon speaks {NAME}; build it against `wit/0.1.0`"),
        None if seen.is_empty() => format!(
            "it exports nothing; a plugin exports `{PACKAGE}/aggregator@0.1.0` (in Rust, is the `export!` compiled in?)"
        ),
        None => format!("it exports {}, but not `{PACKAGE}/aggregator@0.1.0`", listed(&seen)),
    })
}

/// What wasmtime says when a function's type differs, as a sentence.
pub(crate) fn mismatch(error: &wasmtime::Error) -> String {
    format!("an import or export has another type than in `wit/0.1.0`: {error:#}")
}

fn check_import(engine: &wasmtime::Engine, name: &str, import: &ComponentItem) -> Result<(), PluginError> {
    match (interface(name), import) {
        (Some(("log", SERIES)), ComponentItem::ComponentInstance(_)) => Ok(()),
        // Interfaces that hold types only give a plugin nothing to call.
        (Some(("types" | "columns", SERIES)), ComponentItem::ComponentInstance(instance))
            if functions(engine, instance).is_empty() =>
        {
            Ok(())
        }
        _ if name.starts_with("wasi:") => problem(format!(
            "it imports `{name}`; plugins get no WASI, only `{PACKAGE}/log@0.1.0`: build for `wasm32-unknown-unknown`, \
             or with `--stub-wasi` where the language's runtime wants WASI"
        )),
        _ => problem(format!("it imports `{name}`; the only thing a plugin may import is `{PACKAGE}/log@0.1.0`")),
    }
}

fn check_functions(engine: &wasmtime::Engine, instance: &ComponentInstance) -> Result<(), PluginError> {
    let found = functions(engine, instance);
    let missing: Vec<_> = FUNCTIONS.into_iter().filter(|name| !found.iter().any(|found| found == name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    problem(format!("its export `{PACKAGE}/aggregator` lacks {}; build it against `wit/0.1.0`", listed(&missing)))
}

fn functions(engine: &wasmtime::Engine, instance: &ComponentInstance) -> Vec<String> {
    instance
        .exports(engine)
        .filter(|(_, export)| matches!(export.ty, ComponentItem::ComponentFunc(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// `tally:aggregator/log@0.1.3` gives `("log", "0.1")`.
fn interface(name: &str) -> Option<(&str, &str)> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@')?;
    let (series, patch) = version.rsplit_once('.')?;
    patch.parse::<u32>().ok()?;
    Some((interface, series))
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn problem(problem: String) -> Result<(), PluginError> {
    Err(PluginError::Contract { problem })
}

#[cfg(test)]
mod tests {
    use super::interface;

    #[test]
    fn patch_versions_are_interchangeable_and_nothing_else_is() {
        assert_eq!(interface("tally:aggregator/log@0.1.0"), Some(("log", "0.1")));
        assert_eq!(interface("tally:aggregator/log@0.1.7"), Some(("log", "0.1")));
        assert_eq!(interface("tally:aggregator/log@0.2.0"), Some(("log", "0.2")));
        for other in ["tally:aggregator/log", "tally:aggregators/log@0.1.0", "log", "wasi:cli/log@0.1.0"] {
            assert_eq!(interface(other), None, "{other}");
        }
    }
}
