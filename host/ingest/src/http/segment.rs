//! Segment's batch call: `{"batch":[...],"context":{...},"integrations":{...},"sentAt":"...","writeKey":"..."}`. Pure.
//!
//! What the batch says once holds for each of its events: `sentAt` where an event has none, `context` and `integrations` member by member where
//! an event does not say otherwise. The write key is nobody's business but the door's: it does not become part of an event.
//!
//! That is done by text, since the last of several equal keys wins: what the batch says comes before what the event says.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::lines::{Lines, each_element};

const EXPECTED: &str = "the body must be an object with an array \"batch\" of events, and each member once";

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: &'a RawValue,
    context: Option<&'a RawValue>,
    integrations: Option<&'a RawValue>,
    #[serde(rename = "sentAt")]
    sent_at: Option<&'a RawValue>,
}

/// What of an event is merged with what its batch says.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    integrations: Option<&'a RawValue>,
}

/// Appends the events of a batch.
pub(super) fn push(body: &[u8], lines: &mut Lines) {
    let batch: Batch<'_> = match serde_json::from_slice(body) {
        Ok(batch) => batch,
        Err(error) if error.is_data() => return lines.unexpected(EXPECTED, body),
        Err(error) => return lines.malformed(0, &error, body),
    };
    let events = each_element(batch.batch.get().as_bytes(), |event| batch.push(event.get(), lines));
    // Its JSON has been read once already.
    if events.is_err() {
        lines.unexpected(EXPECTED, body);
    }
}

impl Batch<'_> {
    fn push(&self, event: &str, lines: &mut Lines) {
        let Some(members) = members(event) else {
            return lines.push(&[event.as_bytes()]);
        };
        let mut before = String::new();
        let mut after = String::new();
        if let Some(sent_at) = self.sent_at {
            before.push_str(&format!("\"sentAt\":{sent_at},"));
        }
        if (self.context.is_some() || self.integrations.is_some())
            && let Ok(own) = serde_json::from_str::<Event<'_>>(event)
        {
            merge("context", self.context, own.context, &mut after);
            merge("integrations", self.integrations, own.integrations, &mut after);
        }
        let text = if members.is_empty() {
            // The commas are between members only.
            format!("{{{}}}", format!("{before}{}", after.trim_start_matches(',')).trim_end_matches(','))
        } else {
            format!("{{{before}{members}{after}}}")
        };
        lines.push(&[text.as_bytes()]);
    }
}

/// Appends `,"name":{...}` with the members of both, those of `own` last; nothing when there is nothing to merge.
fn merge(name: &str, common: Option<&RawValue>, own: Option<&RawValue>, to: &mut String) {
    let Some(common) = common.and_then(|value| members(value.get())).filter(|members| !members.is_empty()) else {
        return;
    };
    let own = match own.map(RawValue::get) {
        None => "",
        Some(own) => match members(own) {
            Some(members) => members,
            // Its own value is no object: that is what it says.
            None => return,
        },
    };
    let comma = if own.is_empty() { "" } else { "," };
    to.push_str(&format!(",\"{name}\":{{{common}{comma}{own}}}"));
}

/// What is between the braces of an object.
fn members(value: &str) -> Option<&str> {
    Some(value.trim().strip_prefix('{')?.strip_suffix('}')?.trim())
}
