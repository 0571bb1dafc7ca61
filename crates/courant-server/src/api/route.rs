//! What the table of routes is made of. The router and the OpenAPI document are both built from it, so
//! that they cannot differ.

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter};

use super::ApiState;
use super::guard::{Guard, check};
use super::limits::SMALL_BODY_BYTES_MAX;

/// One method of one address.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Verb,
    /// Below `/api/v1`; `{name}` stands for one part of a path.
    pub(crate) path: &'static str,
    /// The operation's name in the OpenAPI document.
    pub(crate) id: &'static str,
    /// One sentence without its full stop.
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) body: Option<RequestBody>,
    pub(crate) answer: Answer,
    /// The handler, on the method that it is given.
    pub(crate) handler: fn(MethodFilter) -> MethodRouter<ApiState>,
}

/// What a route does with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads, and needs no credential.
    Open,
    /// Reads: not inside of pages of other sites.
    Read,
    /// Reads for as long as somebody listens, or makes the server work: not for pages of other sites.
    Stream,
    /// Changes something: not for pages of other sites, and not in read-only mode.
    Change,
}

/// The methods that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

impl Verb {
    /// As the OpenAPI document has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// A parameter in the query or in the path.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    /// One sentence without its full stop.
    pub(crate) doc: &'static str,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the path, so always there.
    Path,
    /// In the query, where it may be missing.
    Query,
}

pub(crate) const fn path(name: &'static str, doc: &'static str) -> Parameter {
    Parameter { name, place: Place::Path, kind: Kind::Text, doc }
}

pub(crate) const fn query(name: &'static str, kind: Kind, doc: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, kind, doc }
}

/// What a request brings.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) content_types: &'static [&'static str],
    pub(crate) kind: Kind,
    /// Bytes that are read at most.
    pub(crate) bytes_max: usize,
}

impl RequestBody {
    /// JSON that says what to change.
    pub(crate) const fn json(schema: &'static Schema) -> Self {
        Self { content_types: &["application/json"], kind: Kind::Of(schema), bytes_max: SMALL_BODY_BYTES_MAX }
    }
}

/// What is answered when all went well.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) kind: Kind,
    /// One sentence without its full stop.
    pub(crate) doc: &'static str,
}

pub(crate) const fn answer(status: u16, schema: &'static Schema, doc: &'static str) -> Answer {
    Answer { status, content_type: "application/json", kind: Kind::Of(schema), doc }
}

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Flag,
    /// A whole number, exact in all of its up to 64 bits.
    Integer,
    Decimal,
    /// Any JSON.
    Any,
    /// One of these texts.
    Words(&'static [&'static str]),
    /// An object of this schema.
    Of(&'static Schema),
    /// An array.
    Many(&'static Kind),
    /// An object whose names are not known before.
    Map(&'static Kind),
    /// That, or `null`: unknown, or not there.
    OrNull(&'static Kind),
    /// One of these.
    Either(&'static [Kind]),
}

/// An object with its fields. Its name is unique in the document.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
}

/// A field of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether it is always there.
    pub(crate) required: bool,
    /// One sentence without its full stop.
    pub(crate) doc: &'static str,
}

pub(crate) const fn field(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, required: true, doc }
}

pub(crate) const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, required: false, doc }
}

/// The parameters of every paged list.
pub(crate) const LIMIT: Parameter =
    query("limit", Kind::Integer, "Rows at most, 1 to 1000; 100 where it is missing");
pub(crate) const AFTER: Parameter =
    query("after", Kind::Text, "What `next` of the page before was; the first page has none");
pub(crate) const FILTER: Parameter =
    query("filter", Kind::Text, "Only names that contain this text, whatever the case of its letters");
pub(crate) const DRY_RUN: Parameter =
    query("dry_run", Kind::Flag, "With `true` nothing is changed, and the answer says what would be");

impl Route {
    /// Bytes of a body that are read at most.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.body.as_ref().map_or(SMALL_BODY_BYTES_MAX, |body| body.bytes_max)
    }

    /// The route as the router has it: guarded, and with a bound for its body.
    pub(super) fn router(&'static self, state: &ApiState) -> MethodRouter<ApiState> {
        let guard = Guard { state: state.clone(), route: self };
        // The guard is the outer one: nothing is read for whom it does not let in.
        (self.handler)(self.method.filter())
            .route_layer(DefaultBodyLimit::max(self.body_bytes_max()))
            .route_layer(from_fn_with_state(guard, check))
    }
}
