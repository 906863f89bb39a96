//! `[preset.NAME]` and `[[aggregator]]`: the parts of the file that are lists of things with names.

use std::collections::{BTreeMap, BTreeSet};

use tally_event::presets::shipped;
use tally_event::schema::{Preset, TimestampFormat};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::Origin;
use super::file::{Entry, File};
use super::settings::Findings;
use super::spelling::nearest;
use super::value::{Kind, Value, described};
use super::{Aggregator, Begins};

/// The longest constant type, in bytes.
const TYPE_BYTES: usize = 256;

/// How many shards an aggregator may have; each is a thread and a sandbox of its own.
const SHARDS: Kind = Kind::Count { min: 1, max: 64 };

const FORMATS: [(&str, TimestampFormat); 4] = [
    ("rfc3339", TimestampFormat::Rfc3339),
    ("seconds", TimestampFormat::Seconds),
    ("milliseconds", TimestampFormat::Milliseconds),
    ("microseconds", TimestampFormat::Microseconds),
];

/// One table of the file that is being read, key by key.
struct Reader<'r, 'f> {
    file: &'r File<'r>,
    /// How keys are named in messages: `preset.NAME`, `aggregator[0]`.
    name: String,
    entry: Entry<'f>,
    findings: &'r mut Findings,
}

impl<'f> Reader<'_, 'f> {
    /// The value of a key, and its place.
    fn take(&mut self, key: &str) -> Option<(Origin, DeValue<'f>)> {
        let (name, value) = self.entry.table.remove_entry(key)?;
        Some((self.file.at(name.span().start), value.into_inner()))
    }

    fn problem(&mut self, origin: Origin, key: &str, text: impl Into<String>) {
        self.findings.problem(origin, format!("{}.{key}", self.name), text);
    }

    fn text(&mut self, key: &str) -> Option<(Origin, String)> {
        match self.take(key)? {
            (origin, DeValue::String(text)) => Some((origin, text.into_owned())),
            (origin, other) => {
                self.problem(origin, key, format!("found {}; write text in quotes", described(&other)));
                None
            }
        }
    }

    /// A pointer to a member, so not the empty one.
    fn pointer(&mut self, key: &str) -> Option<String> {
        let (origin, text) = self.text(key)?;
        self.checked_pointer(&origin, key, text)
    }

    fn checked_pointer(&mut self, origin: &Origin, key: &str, text: String) -> Option<String> {
        let escapes_are_right = text.split('~').skip(1).all(|after| after.starts_with('0') || after.starts_with('1'));
        if text.starts_with('/') && escapes_are_right {
            return Some(text);
        }
        let meant = text.trim_start_matches('/').replace('~', "~0");
        let text =
            format!("\"{text}\" is no JSON pointer; write e.g. \"/{meant}\" (`~0` stands for `~`, `~1` for `/`)");
        self.problem(origin.clone(), key, text);
        None
    }

    /// One pointer or a list of them.
    fn pointers(&mut self, key: &str) -> Option<Vec<String>> {
        let (origin, value) = self.take(key)?;
        let items = match value {
            DeValue::String(text) => vec![text.into_owned()],
            DeValue::Array(array) => {
                let text = |item: &Spanned<DeValue>| item.get_ref().as_str().map(str::to_string);
                match array.iter().map(text).collect::<Option<Vec<String>>>() {
                    Some(items) => items,
                    None => {
                        self.problem(
                            origin,
                            key,
                            "found something other than text in the list; write JSON pointers in quotes",
                        );
                        return None;
                    }
                }
            }
            other => {
                let text = format!("found {}; write a JSON pointer in quotes, or a list of them", described(&other));
                self.problem(origin, key, text);
                return None;
            }
        };
        items.into_iter().map(|item| self.checked_pointer(&origin, key, item)).collect()
    }

    /// Everything that was not taken is unknown.
    fn end(mut self, known: &[&str]) -> Origin {
        let rest: Vec<Spanned<DeString>> =
            std::mem::take(&mut self.entry.table).into_iter().map(|(key, _)| key).collect();
        for key in rest {
            let origin = self.file.at(key.span().start);
            let key = key.into_inner();
            let text = match nearest(&key, known.iter().copied()) {
                Some(near) => format!("unknown key; did you mean {near}?"),
                None => format!("unknown key; known here are {}", known.join(", ")),
            };
            self.problem(origin, &key, text);
        }
        self.entry.origin
    }
}

/// The presets that come with Tally, `default` first, then those of the file by name; and where those were defined.
pub(super) fn presets(
    file: &File,
    entries: Vec<(String, Entry)>,
    findings: &mut Findings,
    defined: &mut BTreeMap<String, Origin>,
) -> Vec<Preset> {
    let mut presets = shipped().to_vec();
    let shipped: Vec<String> = presets.iter().map(|preset| preset.name.clone()).collect();
    let mut own = BTreeMap::new();
    for (name, entry) in entries {
        let key = format!("preset.{name}");
        let origin = entry.origin.clone();
        if shipped.contains(&name) {
            let text = "this preset comes with Tally and cannot be changed; define one with a name of its own";
            findings.problem(origin, key, text);
            continue;
        }
        if let Some(problem) = bad_name(&name) {
            findings.problem(origin, key, problem);
            continue;
        }
        own.insert(name.clone(), preset(name, Reader { file, name: key.clone(), entry, findings }));
        defined.insert(key, origin);
    }
    presets.extend(own.into_values());
    presets
}

fn preset(name: String, mut reader: Reader) -> Preset {
    let known = ["type", "type_path", "timestamp", "timestamp_format", "event_id", "rename", "required"];
    let mut preset = Preset { name, ..Preset::default() };
    let has_type_path = reader.entry.table.contains_key("type_path");
    if let Some((origin, text)) = reader.text("type") {
        if has_type_path {
            let text = "every event gets this type, so type_path means nothing; remove one of them";
            reader.problem(origin.clone(), "type", text);
        }
        if !(1..=TYPE_BYTES).contains(&text.len()) {
            reader.problem(
                origin,
                "type",
                format!("the type has {} bytes; it must have 1 to {TYPE_BYTES}", text.len()),
            );
        }
        preset.constant_type = Some(text);
    }
    preset.type_path = reader.pointer("type_path").unwrap_or(preset.type_path);
    preset.timestamp_path = reader.pointer("timestamp").unwrap_or(preset.timestamp_path);
    if let Some((origin, text)) = reader.text("timestamp_format") {
        match FORMATS.iter().find(|(word, _)| *word == text) {
            Some((_, format)) => preset.timestamp_format = *format,
            None => {
                let words = FORMATS.map(|(word, _)| word).join(", ");
                reader.problem(origin, "timestamp_format", format!("\"{text}\" is none of {words}"));
            }
        }
    }
    preset.event_id = reader.pointers("event_id").unwrap_or(preset.event_id);
    preset.rename = rename(&mut reader).unwrap_or(preset.rename);
    preset.required = reader.pointers("required").unwrap_or(preset.required);
    reader.end(&known);
    preset
}

/// What aggregators ask for, and where it is. The empty pointer asks for everything that nothing else renames.
fn rename(reader: &mut Reader) -> Option<Vec<(String, String)>> {
    const KEY: &str = "rename";
    let (origin, value) = reader.take(KEY)?;
    let DeValue::Table(table) = value else {
        let text = format!("found {}; write {{ \"/wanted\" = \"/where/it/is\" }}", described(&value));
        reader.problem(origin, KEY, text);
        return None;
    };
    let mut renames = Vec::new();
    for (wanted, place) in table {
        let origin = reader.file.at(wanted.span().start);
        let DeValue::String(place) = place.get_ref() else {
            let text = format!("\"{}\" is {}; write a JSON pointer", wanted.get_ref(), described(place.get_ref()));
            reader.problem(origin, KEY, text);
            continue;
        };
        let wanted = match wanted.get_ref().as_ref() {
            "" => Some(String::new()),
            wanted => reader.checked_pointer(&origin, KEY, wanted.to_string()),
        };
        let place = reader.checked_pointer(&origin, KEY, place.to_string());
        renames.extend(wanted.zip(place));
    }
    Some(renames)
}

/// The aggregators in the file's order, and where they were defined.
pub(super) fn aggregators(
    file: &File,
    entries: Vec<Entry>,
    findings: &mut Findings,
    defined: &mut BTreeMap<String, Origin>,
) -> Vec<Aggregator> {
    let mut seen = BTreeSet::new();
    let mut aggregators = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let origin = entry.origin.clone();
        let name = format!("aggregator[{index}]");
        let Some(aggregator) = aggregator(Reader { file, name: name.clone(), entry, findings }) else { continue };
        if !seen.insert(aggregator.name.clone()) {
            let text =
                format!("`{}` is the name of an earlier [[aggregator]]; give it a `name` of its own", aggregator.name);
            findings.problem(origin, format!("{name}.name"), text);
            continue;
        }
        defined.insert(format!("aggregator.{}", aggregator.name), origin);
        aggregators.push(aggregator);
    }
    aggregators
}

fn aggregator(mut reader: Reader) -> Option<Aggregator> {
    let plugin = reader.text("plugin");
    let name = reader.text("name");
    let settings = match reader.take("settings") {
        None => "{}".to_string(),
        Some((origin, value @ DeValue::Table(_))) => to_json(&value).unwrap_or_else(|path| {
            reader.problem(
                origin,
                &format!("settings{path}"),
                "not a finite number below 2^63; JSON has no such value",
            );
            String::new()
        }),
        Some((origin, other)) => {
            reader.problem(origin, "settings", format!("found {}; write {{ key = value }}", described(&other)));
            String::new()
        }
    };
    let mut shards = 1;
    if let Some((origin, value)) = reader.take("shards") {
        match SHARDS.read_toml(&value) {
            Ok(Value::Count(count)) => shards = count as usize,
            Ok(_) => unreachable!("a count is read as a count"),
            Err(problem) => reader.problem(origin, "shards", problem),
        }
    }
    let mut start = Begins::Now;
    if let Some((origin, text)) = reader.text("start") {
        match Begins::parse(&text) {
            Ok(begins) => start = begins,
            Err(problem) => reader.problem(origin, "start", problem),
        }
    }
    for (key, value) in [("plugin", &plugin), ("name", &name)] {
        let Some((origin, text)) = value else { continue };
        match text.strip_suffix(".wasm") {
            Some(stem) if key == "plugin" => {
                let text = format!("\"{text}\" is a file name; write it without .wasm: \"{stem}\"");
                reader.problem(origin.clone(), key, text);
            }
            _ => {
                if let Some(problem) = bad_name(text) {
                    reader.problem(origin.clone(), key, problem);
                }
            }
        }
    }
    let known = ["name", "plugin", "settings", "shards", "start"];
    let no_plugin =
        plugin.is_none() && !reader.findings.problems.iter().any(|p| p.key == format!("{}.plugin", reader.name));
    if no_plugin {
        let origin = reader.entry.origin.clone();
        reader.problem(origin, "plugin", "missing; write the plugin's file name without .wasm");
    }
    reader.end(&known);
    let plugin = plugin?.1;
    let name = name.map_or_else(|| plugin.clone(), |(_, name)| name);
    Some(Aggregator { name, plugin, settings, shards, start })
}

/// Names stand in paths, URLs and records, so they are plain.
fn bad_name(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.') {
        return None;
    }
    Some(format!(
        "\"{name}\" is no name; names have 1 to 64 of the characters a-z A-Z 0-9 - _ . and do not begin with a dot"
    ))
}

/// Canonical JSON: keys sorted by bytes, no spaces, whatever order the file or a map type has. The error is the path of
/// what JSON cannot say.
fn to_json(value: &DeValue) -> Result<String, String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    Ok(match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => return Err(String::new()),
        },
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => quoted(&time.to_string()),
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
            Some(number) => number.to_string(),
            None => return Err(String::new()),
        },
        DeValue::Array(items) => {
            let items: Result<Vec<String>, String> = (items.iter().enumerate())
                .map(|(index, item)| to_json(item.get_ref()).map_err(|path| format!("[{index}]{path}")))
                .collect();
            format!("[{}]", items?.join(","))
        }
        DeValue::Table(table) => format!("{{{}}}", entries(table)?.join(",")),
    })
}

fn entries(table: &DeTable) -> Result<Vec<String>, String> {
    let mut entries: Vec<(&str, &DeValue)> =
        table.iter().map(|(name, value)| (name.get_ref().as_ref(), value.get_ref())).collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    (entries.into_iter())
        .map(|(name, item)| {
            let value = to_json(item).map_err(|path| format!(".{name}{path}"))?;
            Ok(format!("{}:{value}", serde_json::Value::from(name)))
        })
        .collect()
}
