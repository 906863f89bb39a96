//! Which format a request's body has, by its route and headers. Pure.
//!
//! Form data and plain text are refused even where JSON could be in them: a browser lets any page send those to any address unasked.

use axum::http::{HeaderMap, StatusCode, header};

use super::answer::Failure;
use super::{HttpPresets, Route};

/// How a body holds events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object.
    One,
    /// One JSON object or an array of them.
    Json,
    /// A JSON object on each line.
    Lines,
    /// A MessagePack map, several of them, or an array of them.
    Msgpack,
    /// The data of a CloudEvent whose attributes are headers.
    CloudEvent,
    /// A JSON object with an array of events in it.
    SegmentBatch,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub format: Format,
    pub preset: usize,
}

impl Content {
    pub fn of(route: Route, presets: &HttpPresets, headers: &HeaderMap) -> Result<Self, Failure> {
        let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        let essence = given.map(|given| given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let media = essence.as_deref();
        let (format, preset) = match (route, media) {
            (Route::Events, _) => return events(presets, headers, media),
            (Route::Activity, Some("application/json")) => (Format::One, presets.activity),
            (Route::Segment(preset), Some("application/json")) => (Format::One, preset),
            (Route::SegmentBatch, Some("application/json")) => (Format::SegmentBatch, presets.segment),
            _ => return Err(unsupported(media, "this route takes application/json")),
        };
        Ok(Self { format, preset })
    }
}

fn events(presets: &HttpPresets, headers: &HeaderMap, media: Option<&str>) -> Result<Content, Failure> {
    let cloudevent = headers.contains_key("ce-specversion") || headers.contains_key("ce-type");
    let (format, preset) = match media {
        Some("application/cloudevents+json") => (Format::One, presets.cloudevents),
        Some("application/cloudevents-batch+json") => (Format::Json, presets.cloudevents),
        None if cloudevent => (Format::CloudEvent, presets.cloudevents),
        Some(media) if cloudevent && (media == "application/json" || media.ends_with("+json")) => {
            (Format::CloudEvent, presets.cloudevents)
        }
        _ if cloudevent => {
            return Err(unsupported(media, "the data of a CloudEvent must be application/json"));
        }
        Some("application/json") => (Format::Json, presets.default),
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines") => {
            (Format::Lines, presets.default)
        }
        Some("application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack") => {
            (Format::Msgpack, presets.default)
        }
        _ => {
            return Err(unsupported(
                media,
                "taken are application/json (an object or an array), application/x-ndjson (a line each), \
                 application/msgpack, application/cloudevents+json and application/cloudevents-batch+json",
            ));
        }
    };
    Ok(Content { format, preset })
}

fn unsupported(media: Option<&str>, taken: &str) -> Failure {
    let given = match media {
        None => "the request has no Content-Type".to_owned(),
        // What `curl --data` says unless it is told otherwise.
        Some("application/x-www-form-urlencoded") => {
            "the Content-Type is form data; with curl, add -H 'Content-Type: application/json'".to_owned()
        }
        Some(media) => format!("the Content-Type {media} is not taken"),
    };
    Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", format!("{given}; {taken}"))
}
