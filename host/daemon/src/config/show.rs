//! A configuration as it is shown: every setting with its value and where it came from, by section. Secrets stand in files
//! and are not read here.

use super::{Config, KEYS, Origin};

/// Settings that stand together.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// `flush`, `preset.NAME`, `aggregator.NAME`; empty for the top level.
    pub name: String,
    /// Its settings.
    pub rows: Vec<Row>,
}

/// A setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The whole key, `flush.events`.
    pub key: String,
    /// For people, with a unit; without a value what that means, in parentheses.
    pub text: String,
    /// For programs: sizes are bytes; null without a value.
    pub value: serde_json::Value,
    /// Where it comes from.
    pub origin: Origin,
}

impl Config {
    /// Every setting in the order of the key table, then the presets of the file, then the aggregators.
    pub fn sections(&self) -> Vec<Section> {
        let mut sections: Vec<Section> = Vec::new();
        for key in KEYS {
            if sections.last().is_none_or(|section| section.name != key.section()) {
                sections.push(Section { name: key.section().to_string(), rows: Vec::new() });
            }
            let value = self.settings.value(key.name);
            let row = Row {
                key: key.name.to_string(),
                text: match value.map(ToString::to_string) {
                    Some(text) if !text.is_empty() => text,
                    Some(_) => "(none)".to_string(),
                    None => format!("({})", key.default),
                },
                value: value.map_or(serde_json::Value::Null, super::Value::to_json),
                origin: self.settings.origin(key.name),
            };
            if let Some(section) = sections.last_mut() {
                section.rows.push(row);
            }
        }
        sections.extend(self.presets.iter().filter_map(|preset| self.preset_section(preset)));
        sections.extend(self.aggregators.iter().map(|aggregator| self.aggregator_section(aggregator)));
        sections
    }

    /// A preset of the file; those that come with Tally are in its documentation.
    fn preset_section(&self, preset: &tally_event::schema::Preset) -> Option<Section> {
        let name = format!("preset.{}", preset.name);
        let origin = self.defined.get(&name)?;
        let renamed = preset.rename.iter().map(|(wanted, place)| format!("{wanted} = {place}")).collect();
        let of_type = match &preset.constant_type {
            Some(constant) => ("type", vec![constant.clone()]),
            None => ("type_path", vec![preset.type_path.clone()]),
        };
        let format = format!("{:?}", preset.timestamp_format).to_ascii_lowercase();
        let rows = [
            of_type,
            ("timestamp", vec![preset.timestamp_path.clone()]),
            ("timestamp_format", vec![format]),
            ("event_id", preset.event_id.clone()),
            ("rename", renamed),
            ("required", preset.required.clone()),
        ];
        Some(section(&name, rows.into_iter().filter(|(_, values)| !values.is_empty()), origin))
    }

    fn aggregator_section(&self, aggregator: &super::Aggregator) -> Section {
        let name = format!("aggregator.{}", aggregator.name);
        let origin = self.defined.get(&name).unwrap_or(&Origin::Default);
        let rows = [("plugin", vec![aggregator.plugin.clone()]), ("settings", vec![aggregator.settings.clone()])];
        let mut section = section(&name, rows.into_iter(), origin);
        section.rows.push(Row {
            key: format!("{name}.shards"),
            text: aggregator.shards.to_string(),
            value: aggregator.shards.into(),
            origin: origin.clone(),
        });
        let start = aggregator.start.to_string();
        section.rows.push(Row {
            key: format!("{name}.start"),
            text: start.clone(),
            value: start.into(),
            origin: origin.clone(),
        });
        section
    }
}

fn section<'k>(name: &str, rows: impl Iterator<Item = (&'k str, Vec<String>)>, origin: &Origin) -> Section {
    let row = |(key, values): (&str, Vec<String>)| Row {
        key: format!("{name}.{key}"),
        text: values.join(", "),
        value: match <[String; 1]>::try_from(values) {
            Ok([value]) => value.into(),
            Err(values) => values.into(),
        },
        origin: origin.clone(),
    };
    Section { name: name.to_string(), rows: rows.map(row).collect() }
}
