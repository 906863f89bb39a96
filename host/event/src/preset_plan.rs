//! A preset, compiled for a plan: where in a line of its shape everything is that the plan reads. Every preset has a trie of
//! its own, so that renames cost nothing while lines are read, and the shape of one source slows down no other. Knows
//! nothing of lines.

use crate::pointer;
use crate::schema::{Field, Kind, Preset, TimestampFormat};
use crate::trie::{Trie, TrieBuilder};
use std::collections::BTreeSet;

/// A preset, compiled.
#[derive(Debug)]
pub(crate) struct PresetPlan {
    pub(crate) trie: Trie,
    /// One for each column of the plan.
    pub(crate) columns: Vec<ColumnPlan>,
    pub(crate) kind: TypeSource,
    pub(crate) timestamp_slot: usize,
    pub(crate) timestamp_format: TimestampFormat,
    /// As [`Preset::event_id`].
    pub(crate) id_slots: Vec<usize>,
    /// As [`Preset::required`].
    pub(crate) required_slots: Vec<usize>,
}

/// A path read as a kind.
#[derive(Debug)]
pub(crate) struct ColumnPlan {
    pub(crate) slot: usize,
    pub(crate) kind: Kind,
}

/// Where an event's type comes from.
#[derive(Debug)]
pub(crate) enum TypeSource {
    /// The plan's type (or [`crate::trie::NONE`]) of every event.
    Constant(u32),
    /// The slot that holds the type's name.
    Slot(usize),
}

impl PresetPlan {
    /// Compiles a preset; `type_called` gives the plan's type by its name.
    pub(crate) fn new(
        preset: &Preset,
        columns: &[Field],
        type_called: impl Fn(&[u8]) -> u32,
    ) -> Result<PresetPlan, String> {
        preset.check()?;
        let mut builder = TrieBuilder::new();
        let mut want = |what: &str, place: &str| builder.want(place).map_err(|problem| format!("{what}: {problem}"));
        let column_nodes = columns.iter().map(|field| want("rename", &preset.place(&field.path)));
        let column_nodes = column_nodes.collect::<Result<Vec<_>, _>>()?;
        let type_node = match preset.constant_type {
            Some(_) => None,
            None => Some(want("type", &preset.type_path)?),
        };
        let timestamp_node = want("timestamp", &preset.timestamp_path)?;
        let id_nodes = preset.event_id.iter().map(|place| want("event_id", place)).collect::<Result<Vec<_>, _>>()?;
        let required_nodes = preset.required.iter().map(|wanted| want("required", &preset.place(wanted)));
        let required_nodes = required_nodes.collect::<Result<Vec<_>, _>>()?;

        let trie = builder.finish();
        let slot = |node: usize| trie.nodes[node].slot as usize;
        let planned = |(&node, field): (&usize, &Field)| ColumnPlan { slot: slot(node), kind: field.kind };
        let constant = || type_called(preset.constant_type.as_deref().unwrap_or_default().as_bytes());
        Ok(PresetPlan {
            columns: column_nodes.iter().zip(columns).map(planned).collect(),
            kind: type_node.map_or_else(|| TypeSource::Constant(constant()), |node| TypeSource::Slot(slot(node))),
            timestamp_slot: slot(timestamp_node),
            timestamp_format: preset.timestamp_format,
            id_slots: id_nodes.into_iter().map(slot).collect(),
            required_slots: required_nodes.into_iter().map(slot).collect(),
            trie,
        })
    }
}

impl Preset {
    /// Where in a line the value is that aggregators call `wanted`. The whole event is where it is.
    pub(crate) fn place(&self, wanted: &str) -> String {
        if wanted.is_empty() {
            return String::new();
        }
        // Every value has one pointer only, so that text before a slash is a pointer to something around it.
        let below = |from: &str| wanted.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let fitting = self.rename.iter().filter_map(|(from, to)| Some((from.len(), to, below(from)?)));
        let longest = fitting.max_by_key(|&(length, ..)| length);
        longest.map_or_else(|| wanted.to_string(), |(_, to, rest)| format!("{to}{rest}"))
    }

    /// Whether it holds together; what is wrong with it.
    fn check(&self) -> Result<(), String> {
        if self.constant_type.as_ref().is_some_and(String::is_empty) {
            return Err("the constant type is empty".into());
        }
        if self.constant_type.is_none() {
            within("type", "/type", &self.type_path)?;
        }
        within("timestamp", "/timestamp", &self.timestamp_path)?;
        self.event_id.iter().try_for_each(|place| within("event_id", "/event_id", place))?;
        self.required.iter().try_for_each(|wanted| within("required", "/user_id", wanted))?;
        let mut seen = BTreeSet::new();
        for (from, to) in &self.rename {
            for path in [from, to] {
                pointer::parse(path).map_err(|problem| format!("rename: {problem}"))?;
            }
            if !seen.insert(from) {
                return Err(format!("rename: {from:?} is renamed twice"));
            }
        }
        Ok(())
    }
}

/// Whether a pointer is one to something within the event.
fn within(what: &str, example: &str, path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err(format!("{what} \"\" is the whole event; give a pointer such as {example:?}"));
    }
    pointer::parse(path).map(drop).map_err(|problem| format!("{what}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn renaming(rename: &[(&str, &str)]) -> Preset {
        let rename = rename.iter().map(|&(from, to)| (from.into(), to.into())).collect();
        Preset { rename, ..Preset::default() }
    }

    fn check(rename: &[(&str, &str)], wanted: &[&str], expected: Expect) {
        let preset = renaming(rename);
        let places: Vec<_> = wanted.iter().map(|wanted| format!("{wanted} at {}", preset.place(wanted))).collect();
        expected.assert_eq(&places.join("\n"));
    }

    #[test]
    fn the_longest_renamed_pointer_around_a_value_counts() {
        check(
            &[("", "/data"), ("/properties", "/data/props"), ("/properties/a", "/a"), ("/time", "/time"), ("/all", "")],
            &["", "/user", "/properties", "/properties/x/0", "/properties/a/b", "/properties2", "/time", "/all/x", "/"],
            expect![[r#"
                 at 
                /user at /data/user
                /properties at /data/props
                /properties/x/0 at /data/props/x/0
                /properties/a/b at /a/b
                /properties2 at /data/properties2
                /time at /time
                /all/x at /x
                / at /data/"#]],
        );
        check(
            &[("/a~1b", "/c")],
            &["/a~1b/d", "/a", "/a~1b~1c"],
            expect![[r#"
            /a~1b/d at /c/d
            /a at /a
            /a~1b~1c at /a~1b~1c"#]],
        );
    }

    #[test]
    fn what_cannot_be_compiled_says_why() {
        let refused = |preset: Preset, expected: Expect| {
            let field = Field { path: "/a".into(), kind: Kind::Text };
            expected.assert_eq(&PresetPlan::new(&preset, &[field], |_| 0).expect_err("must be refused"));
        };
        let long = format!("/{}", "p".repeat(pointer::MAX_BYTES - 2));
        refused(
            renaming(&[("/a", "a")]),
            expect![[r#"rename: "a" is no RFC 6901 pointer: it must start with "/", e.g. "/a""#]],
        );
        refused(
            renaming(&[("/a~", "/a")]),
            expect![[r#"rename: "/a~" is no RFC 6901 pointer: "~" must be followed by 0 or 1"#]],
        );
        refused(renaming(&[("/a", "/b"), ("/a", "/c")]), expect![[r#"rename: "/a" is renamed twice"#]]);
        refused(renaming(&[("", &long)]), expect!["rename: the pointer has 1025 bytes; at most 1024 are taken"]);
        refused(
            Preset { event_id: vec!["/id".into(), String::new()], ..Preset::default() },
            expect![[r#"event_id "" is the whole event; give a pointer such as "/event_id""#]],
        );
        refused(
            Preset { required: vec!["user".into()], ..Preset::default() },
            expect![[r#"required: "user" is no RFC 6901 pointer: it must start with "/", e.g. "/user""#]],
        );
    }
}
