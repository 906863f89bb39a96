//! Reading `tally.toml`: every key with its line, every mistake, not only the first. Knows no defaults.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::error::Origin;
use super::keys::{KEYS, key};
use super::settings::{Findings, Settings};
use super::spelling::{nearest, nearest_key};
use super::value::{Value, described};

/// The sections that are not of single settings.
const LISTS: [&str; 2] = ["preset", "aggregator"];

/// A file's text, and where it is.
pub(super) struct File<'f> {
    pub(super) path: &'f Path,
    pub(super) text: &'f str,
}

/// The parts of a file that are not single settings.
#[derive(Default)]
pub(super) struct Lists<'f> {
    /// `[preset.NAME]`, by name.
    pub(super) presets: Vec<(String, Entry<'f>)>,
    /// `[[aggregator]]`, in order.
    pub(super) aggregators: Vec<Entry<'f>>,
}

/// A table, and where it begins.
pub(super) struct Entry<'f> {
    pub(super) origin: Origin,
    pub(super) table: DeTable<'f>,
}

impl<'f> File<'f> {
    /// Takes every setting of the file, and gives its lists; none if it is not TOML.
    pub(super) fn take(&self, settings: &mut Settings, findings: &mut Findings) -> Option<Lists<'f>> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        if !errors.is_empty() {
            for error in errors {
                let origin = self.at(error.span().map_or(0, |span| span.start));
                findings.problem(origin, "", error.message());
            }
            return None;
        }
        let mut lists = Lists::default();
        for (name, value) in root.into_inner() {
            match name.get_ref().as_ref() {
                "preset" => self.presets(value, &mut lists, findings),
                "aggregator" => self.aggregators(value, &mut lists, findings),
                _ => self.section(&name, value, settings, findings),
            }
        }
        Some(lists)
    }

    /// The line of a byte offset.
    pub(super) fn at(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Origin::File(self.path.to_path_buf(), before.matches('\n').count() + 1)
    }

    fn section(
        &self,
        name: &Spanned<DeString>,
        value: Spanned<DeValue>,
        settings: &mut Settings,
        findings: &mut Findings,
    ) {
        let section = name.get_ref().as_ref();
        let is_section = KEYS.iter().any(|key| key.section() == section);
        match value.get_ref() {
            DeValue::Table(table) if is_section => {
                for (inner, value) in table {
                    self.setting(&format!("{section}.{}", inner.get_ref()), inner, value, settings, findings);
                }
            }
            DeValue::Table(_) if key(section).is_none() => {
                let sections = KEYS.iter().map(super::Key::section).filter(|section| !section.is_empty()).chain(LISTS);
                let near = nearest(section, sections).map(|near| format!("; did you mean [{near}]?"));
                let text = format!("unknown section{}", near.unwrap_or_default());
                findings.problem(self.at(name.span().start), section, text);
            }
            value if is_section => {
                let text =
                    format!("found {}; write [{section}] on a line of its own, and its keys below", described(value));
                findings.problem(self.at(name.span().start), section, text);
            }
            _ => self.setting(section, name, &value, settings, findings),
        }
    }

    fn setting(
        &self,
        name: &str,
        place: &Spanned<DeString>,
        value: &Spanned<DeValue>,
        settings: &mut Settings,
        findings: &mut Findings,
    ) {
        let origin = self.at(place.span().start);
        match key(name) {
            Some(key) => {
                let read = key.kind.read_toml(value.get_ref()).map(|value| self.beside_the_file(value));
                settings.take(key, read, origin, findings);
            }
            None => findings.problem(origin, name, format!("unknown key{}", nearest_key(name))),
        }
    }

    /// A path in the file is relative to the file's folder.
    fn beside_the_file(&self, value: Value) -> Value {
        match (value, self.path.parent()) {
            (Value::Path(path), Some(folder)) => Value::Path(folder.join(path)),
            (value, _) => value,
        }
    }

    fn presets(&self, value: Spanned<DeValue<'f>>, lists: &mut Lists<'f>, findings: &mut Findings) {
        let origin = self.at(value.span().start);
        let DeValue::Table(presets) = value.into_inner() else {
            return findings.problem(origin, "preset", "write [preset.NAME] on a line of its own, and its keys below");
        };
        for (name, value) in presets {
            let origin = self.at(name.span().start);
            match value.into_inner() {
                DeValue::Table(table) => lists.presets.push((name.get_ref().to_string(), Entry { origin, table })),
                other => {
                    let name = name.get_ref();
                    let text = format!(
                        "found {}; write [preset.{name}] on a line of its own, and its keys below",
                        described(&other)
                    );
                    findings.problem(origin, format!("preset.{name}"), text);
                }
            }
        }
    }

    fn aggregators(&self, value: Spanned<DeValue<'f>>, lists: &mut Lists<'f>, findings: &mut Findings) {
        let origin = self.at(value.span().start);
        let DeValue::Array(array) = value.into_inner() else {
            return findings.problem(
                origin,
                "aggregator",
                "write [[aggregator]], with two brackets, on a line of its own",
            );
        };
        for entry in DeArray::into_iter(array) {
            let origin = self.at(entry.span().start);
            match entry.into_inner() {
                DeValue::Table(table) => lists.aggregators.push(Entry { origin, table }),
                other => {
                    let text =
                        format!("found {} in the list; write [[aggregator]] on a line of its own", described(&other));
                    findings.problem(origin, "aggregator", text);
                }
            }
        }
    }
}
