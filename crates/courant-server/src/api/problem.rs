//! What went wrong, as `application/problem+json` (RFC 9457).
//!
//! `code` is for programs and never changes its meaning; `detail` is a sentence for people that says what
//! to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use courant_log::{
    AlterTopicError, AppendError, CreateTopicError, DeleteTopicError, GroupError, ReadError, WriterError,
};
use serde::Serialize;
use tracing::error;

use super::audit::AUDIT_HEADER;

/// One kind of problem.
#[derive(Debug)]
pub(crate) struct ProblemKind {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
}

const fn kind(status: StatusCode, code: &'static str, title: &'static str) -> ProblemKind {
    ProblemKind { status, code, title }
}

pub(crate) static BAD_REQUEST: ProblemKind =
    kind(StatusCode::BAD_REQUEST, "bad_request", "The request cannot be understood");
pub(crate) static NOT_CONFIRMED: ProblemKind =
    kind(StatusCode::BAD_REQUEST, "not_confirmed", "The name was not repeated");
pub(crate) static UNAUTHORIZED: ProblemKind =
    kind(StatusCode::UNAUTHORIZED, "unauthorized", "A credential is needed");
pub(crate) static READ_ONLY: ProblemKind =
    kind(StatusCode::FORBIDDEN, "read_only", "This server's HTTP API changes nothing");
pub(crate) static HOST_NOT_ALLOWED: ProblemKind =
    kind(StatusCode::FORBIDDEN, "host_not_allowed", "The server is not known by this name");
pub(crate) static ORIGIN_NOT_ALLOWED: ProblemKind =
    kind(StatusCode::FORBIDDEN, "origin_not_allowed", "Pages of other sites may not do this");
pub(crate) static INTERNAL_TOPIC: ProblemKind =
    kind(StatusCode::FORBIDDEN, "internal_topic", "The topic is the server's own");
pub(crate) static NOT_FOUND: ProblemKind =
    kind(StatusCode::NOT_FOUND, "not_found", "There is nothing at this address");
pub(crate) static TOPIC_NOT_FOUND: ProblemKind =
    kind(StatusCode::NOT_FOUND, "topic_not_found", "There is no such topic");
pub(crate) static PARTITION_NOT_FOUND: ProblemKind =
    kind(StatusCode::NOT_FOUND, "partition_not_found", "There is no such partition");
pub(crate) static GROUP_NOT_FOUND: ProblemKind =
    kind(StatusCode::NOT_FOUND, "group_not_found", "There is no such group");
pub(crate) static METHOD_NOT_ALLOWED: ProblemKind =
    kind(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This cannot be done here");
pub(crate) static TOPIC_EXISTS: ProblemKind =
    kind(StatusCode::CONFLICT, "topic_exists", "The topic exists already");
pub(crate) static GROUP_IN_USE: ProblemKind =
    kind(StatusCode::CONFLICT, "group_in_use", "The group has members");
pub(crate) static PROGRESS_ELSEWHERE: ProblemKind =
    kind(StatusCode::CONFLICT, "progress_elsewhere", "The progress of the group is kept elsewhere");
pub(crate) static BODY_TOO_LARGE: ProblemKind =
    kind(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large");
pub(crate) static BAD_CONTENT_TYPE: ProblemKind =
    kind(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_content_type", "The body is of another type");
pub(crate) static INVALID: ProblemKind =
    kind(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "What was asked for is not possible");
pub(crate) static DEFECT: ProblemKind =
    kind(StatusCode::INTERNAL_SERVER_ERROR, "defect", "The server has a defect");
pub(crate) static NOT_READ: ProblemKind =
    kind(StatusCode::INTERNAL_SERVER_ERROR, "not_read", "The log could not be read");
pub(crate) static STARTING: ProblemKind =
    kind(StatusCode::SERVICE_UNAVAILABLE, "starting", "The log is being opened");
pub(crate) static NOT_WRITTEN: ProblemKind =
    kind(StatusCode::SERVICE_UNAVAILABLE, "not_written", "Nothing is written now");
pub(crate) static NOT_AUDITED: ProblemKind =
    kind(StatusCode::SERVICE_UNAVAILABLE, "not_audited", "No change can be audited now");

/// The codes of all kinds, wherever they stand, in the order of their letters: what the OpenAPI document says that a
/// program has to know.
pub(super) static CODES: &[&str] = &[
    "bad_content_type",
    "bad_request",
    "body_too_large",
    "busy",
    "conflict",
    "defect",
    "failure_not_found",
    "group_in_use",
    "group_not_found",
    "host_not_allowed",
    "internal_topic",
    "invalid",
    "invalid_events",
    "letter_not_found",
    "method_not_allowed",
    "no_service_key",
    "not_audited",
    "not_confirmed",
    "not_found",
    "not_read",
    "not_written",
    "origin_not_allowed",
    "parked_not_found",
    "partition_not_found",
    "partly_stored",
    "progress_elsewhere",
    "read_only",
    "record_not_found",
    "record_unreadable",
    "redrive_not_found",
    "search_not_found",
    "service_failed",
    "service_not_found",
    "service_refused",
    "service_unanswered",
    "starting",
    "stream_not_found",
    "takes_no_requests",
    "too_many_searches",
    "too_many_streams",
    "too_slow",
    "topic_exists",
    "topic_not_found",
    "trace_not_found",
    "unauthorized",
];

/// What went wrong with one request.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) kind: &'static ProblemKind,
    pub(crate) detail: String,
    /// Where the event of a change is that has failed, as a header says it; `None` where no change was tried.
    audited: Option<HeaderValue>,
}

/// Its form on the wire.
#[derive(Serialize)]
struct Written<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl Problem {
    pub(crate) fn new(kind: &'static ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), audited: None }
    }

    /// The same, as the failure of a change whose event is there.
    pub(super) fn audited_at(self, place: HeaderValue) -> Self {
        Self { audited: Some(place), ..self }
    }

    pub(crate) fn topic_not_found(name: &str) -> Self {
        let detail =
            format!("there is no topic {name:?}; GET /api/v1/topics lists them, and POST creates one");
        Self::new(&TOPIC_NOT_FOUND, detail)
    }

    pub(crate) fn group_not_found(name: &str) -> Self {
        Self::new(&GROUP_NOT_FOUND, format!("there is no group {name:?}; GET /api/v1/groups lists them"))
    }

    /// Something that cannot happen, which the log tells of.
    pub(crate) fn defect(what: &str) -> Self {
        error!("the HTTP API has a defect: {what}");
        Self::new(&DEFECT, "something happened that should not; the server's log says more, please report it")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { kind, detail, audited } = self;
        let written = Written {
            r#type: format!("urn:courant:problem:{}", kind.code),
            title: kind.title,
            status: kind.status.as_u16(),
            detail: &detail,
            code: kind.code,
        };
        // Texts and a number: nothing of it can fail to be written.
        let body = serde_json::to_vec(&written).unwrap_or_default();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (kind.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if kind.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(place) = audited {
            headers.insert(AUDIT_HEADER, place);
        }
        response
    }
}

impl From<WriterError> for Problem {
    fn from(error: WriterError) -> Self {
        Self::new(&NOT_WRITTEN, error.to_string())
    }
}

impl From<CreateTopicError> for Problem {
    fn from(error: CreateTopicError) -> Self {
        match error {
            CreateTopicError::Exists => {
                Self::new(&TOPIC_EXISTS, "a topic of that name exists already; choose another name")
            }
            CreateTopicError::Writer(error) => error.into(),
            error => Self::new(&INVALID, error.to_string()),
        }
    }
}

impl From<AlterTopicError> for Problem {
    fn from(error: AlterTopicError) -> Self {
        match error {
            AlterTopicError::Unknown => Self::new(&TOPIC_NOT_FOUND, "the topic was deleted meanwhile"),
            AlterTopicError::Writer(error) => error.into(),
            error => Self::new(&INVALID, error.to_string()),
        }
    }
}

impl From<DeleteTopicError> for Problem {
    fn from(error: DeleteTopicError) -> Self {
        match error {
            DeleteTopicError::Unknown => Self::new(&TOPIC_NOT_FOUND, "the topic was deleted meanwhile"),
            DeleteTopicError::Writer(error) => error.into(),
            error => Self::new(&INVALID, error.to_string()),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::UnknownPartition => Self::new(&TOPIC_NOT_FOUND, "the topic was deleted meanwhile"),
            AppendError::Writer(error) => error.into(),
            error => Self::new(&INVALID, error.to_string()),
        }
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Writer(error) => error.into(),
            error => Self::new(&INVALID, error.to_string()),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::UnknownPartition => {
                Self::new(&PARTITION_NOT_FOUND, "the partition does not exist, or not any more")
            }
            error @ ReadError::OutOfRange { .. } => Self::new(&INVALID, error.to_string()),
            error => Self::new(&NOT_READ, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use std::fs;
    use std::path::Path;

    #[tokio::test]
    async fn a_problem_has_its_five_members_and_its_type() {
        let response = Problem::topic_not_found("a\"b").into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = to_bytes(response.into_body(), 10_000).await.expect("a body in memory");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["type"], "urn:courant:problem:topic_not_found");
        assert_eq!((body["status"].as_u64(), body["code"].as_str()), (Some(404), Some("topic_not_found")));
        assert!(body["title"].is_string());
        assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("a\\\"b")), "{body}");
    }

    /// The codes of the kinds that stand in the files of a folder.
    fn codes(folder: &Path, found: &mut Vec<String>) {
        // In two parts, so that this line is none of them.
        let begins = concat!(": ProblemKind", " =");
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                codes(&path, found);
                continue;
            }
            let text = fs::read_to_string(path).expect("a file");
            let kinds = text.split(begins).skip(1).filter_map(|kind| kind.split('"').nth(1));
            found.extend(kinds.map(str::to_owned));
        }
    }

    /// Programs go by codes, and most of them were in no page.
    #[test]
    fn the_guide_has_every_code() {
        const PAGE: &str = include_str!("../../../../docs/guide/http-api.md");
        let mut found = Vec::new();
        codes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut found);
        assert!(found.len() >= 40, "{found:?}");
        let unnamed: Vec<_> = found.iter().filter(|code| !PAGE.contains(&format!("`{code}`"))).collect();
        assert!(unnamed.is_empty(), "docs/guide/http-api.md does not name {unnamed:?}");
    }

    /// A code that is missing in the document would be none for a program that was made from it, and one that no
    /// answer has would be waited for in vain.
    #[test]
    fn the_document_has_the_codes_that_there_are() {
        let mut found = Vec::new();
        codes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut found);
        found.sort_unstable();
        found.dedup();
        assert_eq!(CODES, found);
    }

    #[test]
    fn who_has_no_credential_is_told_which_kind_is_wanted() {
        let response = Problem::new(&UNAUTHORIZED, "none").into_response();
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
