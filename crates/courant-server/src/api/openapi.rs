//! The OpenAPI document, made from the table of routes that the router is made from.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::on;
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::json::written;
use super::problem::{CODES, Problem};
use super::route::{Access, Answer, Kind, Parameter, Place, RequestBody, Route, Schema, Verb};
use super::{ApiState, PREFIX, demo, routes};

pub(super) static ROUTES: &[Route] = &[Route {
    method: Verb::Get,
    path: "/openapi.json",
    id: "openapi",
    summary: "This document",
    access: Access::Open,
    parameters: &[],
    body: None,
    answer: Answer {
        status: 200,
        content_type: "application/json",
        kind: Kind::Map(&Kind::Any),
        doc: "The OpenAPI 3.1 document of everything below /api/v1",
    },
    handler: |on_method| on(on_method, show),
}];

async fn show(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    Ok(written(state.documents().get(state.demo().is_ok(), state.settings().tokens.is_some())))
}

/// The document without a demo and with one. Each is written when it is asked for first.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    without_demo: OnceLock<Bytes>,
    with_demo: OnceLock<Bytes>,
}

impl Documents {
    fn get(&self, has_demo: bool, has_tokens: bool) -> Bytes {
        // Of a demo only where one runs.
        let (document, of_demo): (_, &'static [Route]) =
            if has_demo { (&self.with_demo, demo::ROUTES) } else { (&self.without_demo, &[]) };
        let write = || Bytes::from(format!("{}\n", document_of(routes().chain(of_demo), has_tokens)));
        document.get_or_init(write).clone()
    }
}

/// The document of these routes.
fn document_of(routes: impl Iterator<Item = &'static Route>, has_tokens: bool) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut schemas = BTreeMap::new();
    for route in routes {
        let path = paths.entry(format!("{PREFIX}{}", route.path)).or_default();
        path.insert(route.method.word().to_owned(), operation(route, has_tokens, &mut schemas));
    }
    schemas.insert("problem", problem());
    let about = "Whole numbers are exact in all of their 64 bits: read them with a parser that keeps them. \
                 What is unknown is null, and never 0.";
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Courant",
            "version": env!("CARGO_PKG_VERSION"),
            "description": about,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

type Schemas = BTreeMap<&'static str, Value>;

fn operation(route: &Route, has_tokens: bool, schemas: &mut Schemas) -> Value {
    let parameters: Vec<_> = route.parameters.iter().map(|one| parameter(one, schemas)).collect();
    let Answer { status, content_type, kind, doc } = &route.answer;
    let content = json!({ *content_type: { "schema": shape(*kind, schemas) } });
    let failed = json!({ "schema": { "$ref": "#/components/schemas/problem" } });
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            status.to_string(): { "description": doc, "content": content },
            "default": {
                "description": "What went wrong",
                "content": { "application/problem+json": failed },
            },
        },
        "x-changes": route.access == Access::Change,
    });
    if let Some(body) = &route.body {
        operation["requestBody"] = request_body(body, schemas);
    }
    if has_tokens && route.access != Access::Open {
        operation["security"] = json!([{ "token": [] }]);
    }
    operation
}

fn parameter(parameter: &Parameter, schemas: &mut Schemas) -> Value {
    let Parameter { name, place, kind, doc } = parameter;
    let is_of_path = *place == Place::Path;
    json!({
        "name": name,
        "in": if is_of_path { "path" } else { "query" },
        "required": is_of_path,
        "description": doc,
        "schema": shape(*kind, schemas),
    })
}

fn request_body(body: &RequestBody, schemas: &mut Schemas) -> Value {
    let shape = shape(body.kind, schemas);
    let of_type = |content_type: &&str| ((*content_type).to_owned(), json!({ "schema": shape }));
    let content: Map<String, Value> = body.content_types.iter().map(of_type).collect();
    let doc = format!("At most {} bytes", body.bytes_max);
    json!({ "required": true, "description": doc, "content": content })
}

/// A type as JSON Schema. The objects in it are put among the schemas, by name.
fn shape(kind: Kind, schemas: &mut Schemas) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Integer => json!({ "type": "integer", "format": "int64" }),
        Kind::Decimal => json!({ "type": "number" }),
        Kind::Any => json!({}),
        Kind::Words(words) => json!({ "type": "string", "enum": words }),
        Kind::Of(schema) => {
            add(schema, schemas);
            json!({ "$ref": format!("#/components/schemas/{}", schema.name) })
        }
        Kind::Many(each) => json!({ "type": "array", "items": shape(*each, schemas) }),
        Kind::Map(each) => json!({ "type": "object", "additionalProperties": shape(*each, schemas) }),
        Kind::OrNull(other) => json!({ "anyOf": [shape(*other, schemas), { "type": "null" }] }),
        Kind::Either(kinds) => {
            let kinds: Vec<_> = kinds.iter().map(|kind| shape(*kind, schemas)).collect();
            json!({ "anyOf": kinds })
        }
    }
}

fn add(schema: &'static Schema, schemas: &mut Schemas) {
    if schemas.contains_key(schema.name) {
        return;
    }
    // Its place is taken first: a schema may have itself in it.
    schemas.insert(schema.name, Value::Null);
    let mut properties = Map::new();
    for field in schema.fields {
        let shape = shape(field.kind, schemas);
        properties.insert(field.name.to_owned(), described(shape, field.doc));
    }
    let required: Vec<_> =
        schema.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let object = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    schemas.insert(schema.name, object);
}

fn described(mut shape: Value, doc: &str) -> Value {
    if let Some(shape) = shape.as_object_mut()
        && !doc.is_empty()
    {
        shape.insert("description".to_owned(), json!(doc));
    }
    shape
}

/// Every problem has these members (RFC 9457); `code` is for programs.
fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "What is wrong and what to do, for people" },
            "code": {
                "type": "string",
                "enum": CODES,
                "description": "What is wrong, for programs; a later version may have more of them",
            },
        },
        "required": ["type", "title", "status", "detail", "code"],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashSet};

    fn document(has_tokens: bool) -> Value {
        document_of(routes().chain(demo::ROUTES), has_tokens)
    }

    #[test]
    fn every_route_is_in_the_document_once_and_nothing_else_is() {
        let document = document(false);
        let paths = document["paths"].as_object().expect("paths");
        let documented: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods.keys().map(|method| (path.clone(), method.clone()))
            })
            .collect();
        let routed: Vec<_> = routes()
            .chain(demo::ROUTES)
            .map(|route| (format!("{PREFIX}{}", route.path), route.method.word().to_owned()))
            .collect();
        assert_eq!(documented.len(), routed.len(), "a route stands twice in the table");
        assert_eq!(documented, routed.into_iter().collect());
    }

    #[test]
    fn the_parameters_of_a_path_are_those_of_its_route_and_names_are_used_once() {
        let mut ids = HashSet::new();
        for route in routes().chain(demo::ROUTES) {
            assert!(ids.insert(route.id), "{} is two operations", route.id);
            let of_path = |part: &'static str| part.strip_prefix('{')?.strip_suffix('}');
            let expected: Vec<&str> = route.path.split('/').filter_map(of_path).collect();
            let parameters = route.parameters.iter().filter(|one| one.place == Place::Path);
            let found: Vec<&str> = parameters.map(|one| one.name).collect();
            assert_eq!(found, expected, "{}", route.id);
            assert!(!route.summary.ends_with('.') && !route.answer.doc.is_empty(), "{}", route.id);
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        fn walk(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(to)) = members.get("$ref") {
                        found.insert(to.clone());
                    }
                    members.values().for_each(|member| walk(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                _ => {}
            }
        }
        let document = document(true);
        let mut found = BTreeSet::new();
        walk(&document, &mut found);
        assert!(found.len() > 3, "{found:?}");
        for to in found {
            let pointer = to.strip_prefix('#').expect("inside the document");
            assert!(document.pointer(pointer).is_some_and(Value::is_object), "{to}");
        }
    }

    #[test]
    fn the_document_is_written_once() {
        let documents = Documents::default();
        let first = documents.get(false, true);
        assert_eq!(first.as_ptr(), documents.get(false, true).as_ptr());
        let of_demo = documents.get(true, true);
        assert_ne!(first, of_demo);
        let of_demo: Value = serde_json::from_slice(&of_demo).expect("JSON");
        assert_eq!(of_demo, document(true));
    }

    #[test]
    fn what_needs_a_credential_says_so() {
        let of =
            |has_tokens: bool| document(has_tokens)["paths"]["/api/v1/topics"]["get"]["security"].clone();
        assert_eq!(of(false), Value::Null);
        assert_eq!(of(true), json!([{ "token": [] }]));
    }
}
