//! The presets that come with Tally: shapes of lines that senders have already. Knows no more of them than any preset in a
//! configuration could say.

use crate::schema::Preset;
use std::sync::LazyLock;

/// The presets that come with Tally, `default` first. Their names cannot be given to others.
///
/// | Name | Lines | Event type | Time | Event id |
/// |---|---|---|---|---|
/// | `default` | `{"type":..,"timestamp":..}` | `/type` | `/timestamp` | `/event_id` |
/// | `activity` | `{"activity_type":..,"user_id":..}`, refused without `user_id` | `/activity_type` | `/timestamp` | `/event_id` |
/// | `segment` | calls by Segment's specification, of any type | `/type` | `/timestamp` | `/messageId` |
/// | `segment-track`, `segment-page`, `segment-identify` | calls of one type, which need not say it | `track`, `page`, `identify` | `/timestamp` | `/messageId` |
/// | `cloudevents` | CloudEvents 1.0 in JSON | `/type` | `/time` | `/source` and `/id` |
///
/// Aggregators find the members that all senders have under Tally's names whatever the preset is: `/type`, `/timestamp`,
/// `/event_id` and `/user_id`. Of Segment's common fields, `/anonymous_id`, `/group_id`, `/previous_id`, `/sent_at`,
/// `/received_at` and `/original_timestamp` stand for those in camel case, as in Segment's own tables; `/event`,
/// `/properties`, `/traits` and `/context` are where they are. Of a cloud event, everything else that aggregators ask for is
/// within its `data`: `/user_id` is at `/data/user_id`.
pub fn shipped() -> &'static [Preset] {
    static SHIPPED: LazyLock<Vec<Preset>> = LazyLock::new(|| {
        vec![
            Preset::default(),
            activity(),
            segment("segment", None),
            segment("segment-track", Some("track")),
            segment("segment-page", Some("page")),
            segment("segment-identify", Some("identify")),
            cloudevents(),
        ]
    });
    &SHIPPED
}

fn activity() -> Preset {
    Preset {
        name: "activity".into(),
        type_path: "/activity_type".into(),
        required: vec!["/user_id".into()],
        rename: renames(&[("/type", "/activity_type")]),
        ..Preset::default()
    }
}

/// <https://segment.com/docs/connections/spec/common/>
fn segment(name: &str, constant_type: Option<&str>) -> Preset {
    Preset {
        name: name.into(),
        constant_type: constant_type.map(Into::into),
        event_id: vec!["/messageId".into()],
        rename: renames(&[
            ("/event_id", "/messageId"),
            ("/user_id", "/userId"),
            ("/anonymous_id", "/anonymousId"),
            ("/group_id", "/groupId"),
            ("/previous_id", "/previousId"),
            ("/sent_at", "/sentAt"),
            ("/received_at", "/receivedAt"),
            ("/original_timestamp", "/originalTimestamp"),
        ]),
        ..Preset::default()
    }
}

/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>; source and id together are unique.
fn cloudevents() -> Preset {
    Preset {
        name: "cloudevents".into(),
        timestamp_path: "/time".into(),
        event_id: vec!["/source".into(), "/id".into()],
        rename: renames(&[("", "/data"), ("/type", "/type"), ("/timestamp", "/time"), ("/event_id", "/id")]),
        ..Preset::default()
    }
}

fn renames(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|&(wanted, place)| (wanted.into(), place.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Limits, Plan};
    use std::collections::BTreeSet;

    #[test]
    fn they_compile_and_default_is_first() {
        let plan = Plan::new(vec![], shipped().to_vec(), Limits::default()).unwrap();
        assert_eq!(plan.presets()[0], Preset::default());
        assert_eq!(shipped().iter().map(|preset| &preset.name).collect::<BTreeSet<_>>().len(), shipped().len());
    }
}
