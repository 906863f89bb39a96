//! In which format a report is answered: what the parameter `format` says, otherwise what the `Accept` header likes best.
//! Pure.

use axum::http::{HeaderMap, header};

use crate::QueryError;

/// A rendering of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Every table, nested.
    Json,
    /// One table, RFC 4180.
    Csv,
    /// One table, an Arrow IPC stream.
    Arrow,
}

impl Format {
    /// In the order in which they are preferred.
    const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Arrow];

    /// Its content type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// Reads the parameter's value.
    pub(crate) fn parse(name: &str) -> Result<Self, QueryError> {
        match name {
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            "arrow" => Ok(Self::Arrow),
            _ => Err(QueryError::bad_request(
                "unknown_format",
                format!("there is no format `{name}`; known are json, csv and arrow"),
            )),
        }
    }

    /// What the `Accept` headers like best; JSON when there is none.
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, QueryError> {
        let values: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        if values.is_empty() {
            return Ok(Self::Json);
        }
        let ranges: Vec<Range> = values.iter().flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
        let mut best = None;
        for format in Self::ALL {
            let quality = format.quality(&ranges);
            if quality > best.map_or(0, |(_, quality)| quality) {
                best = Some((format, quality));
            }
        }
        best.map(|(format, _)| format).ok_or_else(|| {
            QueryError::new(
                406,
                "not_acceptable",
                format!(
                    "`Accept: {}` has no format that there is; there are application/json, text/csv and application/vnd.apache.arrow.stream",
                    values.join(", ")
                ),
            )
        })
    }

    /// In thousandths, by the most specific range that covers it.
    fn quality(self, ranges: &[Range]) -> u32 {
        let media = self.content_type().split(';').next().unwrap_or_default();
        ranges
            .iter()
            .filter_map(|range| Some((range.covers(media)?, range.quality)))
            .max_by_key(|(precision, _)| *precision)
            .map_or(0, |(_, quality)| quality)
    }
}

/// One media range of an `Accept` header.
struct Range {
    media: String,
    quality: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next()?.to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.map_or(1.0, |quality| quality.parse::<f64>().unwrap_or(0.0));
        Some(Self { media, quality: (quality.clamp(0.0, 1.0) * 1000.0) as u32 })
    }

    /// How precisely the range names the media type, if it covers it.
    fn covers(&self, media: &str) -> Option<u8> {
        let family = media.split('/').next().unwrap_or_default();
        match self.media.as_str() {
            "*/*" => Some(0),
            range if range == media => Some(2),
            range => (range.strip_suffix("/*")? == family).then_some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn accepted(values: &[&'static str]) -> Result<Format, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        Format::accepted(&headers).map_err(|error| error.code)
    }

    #[test]
    fn the_best_liked_format_is_chosen() {
        let table: [(&[&str], Result<Format, &str>); 12] = [
            (&[], Ok(Format::Json)),
            (&["*/*"], Ok(Format::Json)),
            (&["text/csv"], Ok(Format::Csv)),
            (&["Text/CSV; header=present"], Ok(Format::Csv)),
            (&["text/*"], Ok(Format::Csv)),
            (&["application/vnd.apache.arrow.stream"], Ok(Format::Arrow)),
            (&["application/*"], Ok(Format::Json)),
            (&["application/json;q=0.5, text/csv;q=0.6"], Ok(Format::Csv)),
            (&["application/json;q=0, */*"], Ok(Format::Csv)),
            (&["text/html, */*;q=0.1"], Ok(Format::Json)),
            (&["text/html", "text/csv"], Ok(Format::Csv)),
            (&["text/html"], Err("not_acceptable")),
        ];
        for (values, expected) in table {
            assert_eq!(accepted(values), expected, "{values:?}");
        }
    }
}
