//! Whether a manifest holds together. Manifests come from plugins, so nothing about them is taken on trust.

use crate::pointer;
use crate::schema::{EventType, Field, Kind, Manifest, ManifestError};
use std::collections::HashSet;

/// Most fields of a manifest.
pub const MAX_FIELDS: usize = 256;
/// Most event types of a manifest.
pub const MAX_EVENT_TYPES: usize = 1024;
/// Most refusal reasons of a manifest.
pub const MAX_REFUSALS: usize = 256;
/// Most older state versions of a manifest.
pub const MAX_LOADS: usize = 256;
/// Longest name (event type, reason, state version) in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Largest decimal scale: 10^18 is the greatest power of ten within `i64`.
pub const MAX_SCALE: u8 = 18;

type Checked = Result<(), ManifestError>;

impl Manifest {
    /// Whether it holds together: indices in range and not repeated, pointers by RFC 6901, names neither empty nor
    /// repeated, scales and counts within bounds. Says what is wrong and where.
    pub fn check(&self) -> Checked {
        bounded("fields", self.fields.len(), MAX_FIELDS)?;
        bounded("event_types", self.event_types.len(), MAX_EVENT_TYPES)?;
        bounded("refusals", self.refusals.len(), MAX_REFUSALS)?;
        bounded("loads", self.loads.len(), MAX_LOADS)?;
        if self.event_types.is_empty() {
            return wrong("event_types", "none is declared, so no event would ever reach the aggregator");
        }
        for (index, field) in self.fields.iter().enumerate() {
            field.check(&format!("fields[{index}]"))?;
        }
        for (index, event_type) in self.event_types.iter().enumerate() {
            event_type.check(&format!("event_types[{index}]"), self.fields.len())?;
        }
        let event_types = self.event_types.iter().map(|t| t.name.as_str());
        names("event_types", event_types)?;
        names("refusals", self.refusals.iter().map(String::as_str))?;
        names("loads", self.loads.iter().map(String::as_str))?;
        name("state_version", &self.state_version)
    }
}

impl Field {
    fn check(&self, place: &str) -> Checked {
        let tokens = pointer::parse(&self.path).or_else(|problem| wrong(&format!("{place}.path"), problem))?;
        match self.kind {
            Kind::Decimal(scale) if scale > MAX_SCALE => {
                wrong(&format!("{place}.kind"), format!("decimal scale {scale} is over {MAX_SCALE}"))
            }
            Kind::Json => Ok(()),
            _ if tokens.is_empty() => {
                wrong(&format!("{place}.kind"), "path \"\" is the whole event, which only kind json reads")
            }
            _ => Ok(()),
        }
    }
}

impl EventType {
    fn check(&self, place: &str, fields: usize) -> Checked {
        let mut seen = HashSet::new();
        for (list, indices) in [("required", &self.required), ("optional", &self.optional)] {
            for &index in indices {
                let place = format!("{place}.{list} (event type {:?})", self.name);
                if index as usize >= fields {
                    return wrong(&place, format!("index {index} is out of range: there are {fields} fields"));
                }
                if !seen.insert(index) {
                    return wrong(&place, format!("field {index} is named twice"));
                }
            }
        }
        Ok(())
    }
}

fn bounded(place: &str, count: usize, most: usize) -> Checked {
    if count > most { wrong(place, format!("{count} are declared; at most {most} are taken")) } else { Ok(()) }
}

fn names<'a>(place: &str, all: impl Iterator<Item = &'a str>) -> Checked {
    let mut seen = HashSet::new();
    for (index, one) in all.enumerate() {
        let place = format!("{place}[{index}]");
        name(&place, one)?;
        if !seen.insert(one) {
            return wrong(&place, format!("{one:?} is declared twice"));
        }
    }
    Ok(())
}

fn name(place: &str, name: &str) -> Checked {
    match name.len() {
        0 => wrong(place, "the name is empty"),
        length if length > MAX_NAME_BYTES => {
            wrong(place, format!("the name has {length} bytes; at most {MAX_NAME_BYTES} are taken"))
        }
        _ => Ok(()),
    }
}

fn wrong<T>(place: &str, problem: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError { place: place.into(), problem: problem.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Ordering;
    use expect_test::{Expect, expect};

    fn manifest() -> Manifest {
        Manifest {
            fields: vec![
                Field { path: "/user_id".into(), kind: Kind::Text },
                Field { path: "/price".into(), kind: Kind::Decimal(2) },
            ],
            event_types: vec![EventType { name: "action".into(), required: vec![0], optional: vec![1] }],
            ordering: Ordering::Commutative,
            state_version: "1".into(),
            loads: vec![],
            refusals: vec!["resource".into()],
        }
    }

    fn refused(change: impl FnOnce(&mut Manifest), message: Expect) {
        let mut changed = manifest();
        change(&mut changed);
        message.assert_eq(&changed.check().expect_err("must be refused").to_string());
    }

    #[test]
    fn a_sound_manifest_passes() {
        assert_eq!(manifest().check(), Ok(()));
        let mut whole_event = manifest();
        whole_event.fields[0] = Field { path: String::new(), kind: Kind::Json };
        assert_eq!(whole_event.check(), Ok(()));
    }

    #[test]
    fn every_defect_is_named_with_its_place() {
        refused(
            |m| m.fields[1].path = "price".into(),
            expect![[
                r#"manifest: fields[1].path: "price" is no RFC 6901 pointer: it must start with "/", e.g. "/price""#
            ]],
        );
        refused(
            |m| m.fields[0].path.clear(),
            expect![[r#"manifest: fields[0].kind: path "" is the whole event, which only kind json reads"#]],
        );
        refused(
            |m| m.fields[1].kind = Kind::Decimal(19),
            expect!["manifest: fields[1].kind: decimal scale 19 is over 18"],
        );
        refused(
            |m| m.event_types[0].required = vec![0, 2],
            expect![[
                r#"manifest: event_types[0].required (event type "action"): index 2 is out of range: there are 2 fields"#
            ]],
        );
        refused(
            |m| m.event_types[0].optional = vec![0],
            expect![[r#"manifest: event_types[0].optional (event type "action"): field 0 is named twice"#]],
        );
        refused(
            |m| m.event_types.push(m.event_types[0].clone()),
            expect![[r#"manifest: event_types[1]: "action" is declared twice"#]],
        );
        refused(|m| m.event_types[0].name.clear(), expect!["manifest: event_types[0]: the name is empty"]);
        refused(
            |m| m.event_types.clear(),
            expect!["manifest: event_types: none is declared, so no event would ever reach the aggregator"],
        );
        refused(|m| m.refusals.push(String::new()), expect!["manifest: refusals[1]: the name is empty"]);
        refused(
            |m| m.state_version = "v".repeat(300),
            expect!["manifest: state_version: the name has 300 bytes; at most 256 are taken"],
        );
        refused(
            |m| m.fields = vec![m.fields[0].clone(); 257],
            expect!["manifest: fields: 257 are declared; at most 256 are taken"],
        );
    }
}
