//! What a request asks for: its query and its body, within bounds, with a sentence where it is not
//! understood.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{self, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::limits::{FILTER_BYTES_MAX, PAGE_ROWS, PAGE_ROWS_MAX, QUERY_BYTES_MAX};
use super::problem::{BAD_CONTENT_TYPE, BAD_REQUEST, BODY_TOO_LARGE, Problem};

/// What stands in the path, decoded. What is no text there is a problem like any other.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(extract::Path(found)) => Ok(Self(found)),
            Err(rejection) => {
                let sentence = format!("the address is not understood: {}", rejection.body_text());
                Err(Problem::new(&BAD_REQUEST, sentence))
            }
        }
    }
}

/// Bytes with their percent-encoding undone, once. What is no such encoding stays as it is.
pub(crate) fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let encoded = match (*first, behind) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        plain.push(match encoded {
            Some((high, low)) => {
                rest = &behind[2..];
                high * 16 + low
            }
            None => *first,
        });
    }
    plain
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The parameters of a query.
#[derive(Debug)]
pub(crate) struct Asked(Vec<(String, String)>);

impl Asked {
    /// Takes a query apart. A name that is not known is a mistake, and one that comes twice too: what is
    /// misspelt must not be ignored.
    pub(crate) fn of(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let query = query.unwrap_or_default();
        if query.len() > QUERY_BYTES_MAX {
            let sentence = format!("the query has {} bytes; {QUERY_BYTES_MAX} are read", query.len());
            return Err(Problem::new(&BAD_REQUEST, sentence));
        }
        // Else other characters would take the place of the bytes, and another key than the one that was
        // meant would be looked for, or published.
        if std::str::from_utf8(&percent_decoded(query.as_bytes())).is_err() {
            return Err(Problem::new(&BAD_REQUEST, "the query is no UTF-8 when it is decoded"));
        }
        let mut asked: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&&*name) {
                let sentence = match known {
                    [] => format!("there is no parameter {name:?}; this address has none"),
                    known => format!("there is no parameter {name:?}; it can be {}", known.join(", ")),
                };
                return Err(Problem::new(&BAD_REQUEST, sentence));
            }
            if asked.iter().any(|(met, _)| *met == name) {
                return Err(Problem::new(&BAD_REQUEST, format!("{name} is given twice")));
            }
            asked.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(asked))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(met, _)| met == name).map(|(_, value)| value.as_str())
    }

    /// A whole number from 0 on.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok();
        let problem = || Problem::new(&BAD_REQUEST, format!("{name} is {text:?}; write a whole number"));
        number.map(Some).ok_or_else(problem)
    }

    /// `true` or `false`; false where it is missing.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => Err(Problem::new(&BAD_REQUEST, format!("{name} is {text:?}; write true or false"))),
        }
    }

    /// How many rows a page has.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        let limit = self.number("limit")?.map_or(Some(PAGE_ROWS), |limit| usize::try_from(limit).ok());
        limit.filter(|limit| (1..=PAGE_ROWS_MAX).contains(limit)).ok_or_else(|| {
            Problem::new(&BAD_REQUEST, format!("a page has 1 to {PAGE_ROWS_MAX} rows; choose another limit"))
        })
    }

    /// What names are filtered by.
    pub(crate) fn filter(&self) -> Result<NameFilter, Problem> {
        let text = self.text("filter").unwrap_or_default();
        if text.len() > FILTER_BYTES_MAX {
            let sentence = format!("the filter has {} bytes; it can have {FILTER_BYTES_MAX}", text.len());
            return Err(Problem::new(&BAD_REQUEST, sentence));
        }
        Ok(NameFilter(text.to_lowercase()))
    }
}

/// A text that names contain, whatever the case of its letters.
#[derive(Debug)]
pub(crate) struct NameFilter(String);

impl NameFilter {
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.0.is_empty() || name.to_lowercase().contains(&self.0)
    }
}

/// The JSON of a body.
pub(crate) fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let media_type = content_type.and_then(|text| text.split(';').next()).map(str::trim);
    // A form of another site can send text/plain, but not this without being asked first.
    if !media_type.is_some_and(|found| found.eq_ignore_ascii_case("application/json")) {
        let sentence = "send JSON, with the header Content-Type: application/json";
        return Err(Problem::new(&BAD_CONTENT_TYPE, sentence));
    }
    serde_json::from_slice(&bytes(body)?)
        .map_err(|error| Problem::new(&BAD_REQUEST, format!("the body is not what is expected: {error}")))
}

/// The body, if all of it came and it is not too large.
pub(crate) fn bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(&BODY_TOO_LARGE, "the body has more bytes than this address reads; send less")
        }
        _ => Problem::new(&BAD_REQUEST, rejection.body_text()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail<T: std::fmt::Debug>(asked: Result<T, Problem>) -> String {
        asked.expect_err("a problem").detail
    }

    #[test]
    fn a_query_is_taken_apart_and_decoded() {
        let asked = Asked::of(Some("after=a%2Fb+c&limit=7&dry_run=true"), &["after", "limit", "dry_run"]);
        let asked = asked.expect("a good query");
        assert_eq!(asked.text("after"), Some("a/b c"));
        assert_eq!(asked.limit().expect("a number"), 7);
        assert!(asked.flag("dry_run").expect("a flag"));
        assert!(!asked.flag("other").expect("missing"));
        assert_eq!(Asked::of(None, &[]).expect("nothing").limit().expect("the default"), PAGE_ROWS);
    }

    #[test]
    fn what_is_misspelt_is_not_ignored() {
        assert!(detail(Asked::of(Some("limmit=5"), &["limit"])).contains("it can be limit"));
        assert!(detail(Asked::of(Some("a=1&a=2"), &["a"])).contains("twice"));
        assert!(detail(Asked::of(Some("a=%ff"), &["a"])).contains("UTF-8"));
        let known = Asked::of(Some("a=%EF%BF%BD%zz%"), &["a"]).expect("a text");
        assert_eq!(known.text("a"), Some("\u{fffd}%zz%"));
        assert!(detail(Asked::of(Some(&"a".repeat(QUERY_BYTES_MAX + 1)), &["a"])).contains("bytes"));
    }

    #[test]
    fn pages_have_bounds() {
        for limit in ["0", "1001", "-1", "1e2", "", "18446744073709551616"] {
            let asked = Asked::of(Some(&format!("limit={limit}")), &["limit"]).expect("a known name");
            assert!(asked.limit().is_err(), "{limit}");
        }
    }

    #[test]
    fn filters_do_not_look_at_the_case() {
        let filter = |text: &str| Asked::of(Some(text), &["filter"]).expect("known").filter();
        assert!(filter("filter=DeR").expect("short").takes("Orders"));
        assert!(!filter("filter=x").expect("short").takes("Orders"));
        assert!(filter("").expect("none").takes("anything"));
        assert!(filter(&format!("filter={}", "a".repeat(250))).is_err());
    }

    #[test]
    fn only_json_is_taken_for_json() {
        let body = || Ok(Bytes::from_static(b"{\"a\":1}"));
        let mut headers = HeaderMap::new();
        assert_eq!(
            json::<serde_json::Value>(&headers, body()).expect_err("no type").kind.code,
            "bad_content_type"
        );
        headers.insert(header::CONTENT_TYPE, "text/plain".parse().expect("a value"));
        assert_eq!(
            json::<serde_json::Value>(&headers, body()).expect_err("text").kind.code,
            "bad_content_type"
        );
        headers.insert(header::CONTENT_TYPE, "application/JSON; charset=utf-8".parse().expect("a value"));
        assert_eq!(json::<serde_json::Value>(&headers, body()).expect("JSON")["a"], 1);
        let cut = json::<serde_json::Value>(&headers, Ok(Bytes::from_static(b"{"))).expect_err("cut off");
        assert_eq!(cut.kind.code, "bad_request");
    }
}
