//! OTLP as JSON: ids in hexadecimal digits, 64-bit numbers as texts.

use courant_core::trace::{Span, SpanKind, TraceContext, Value};
use serde_json::{Value as Json, json};

/// An `ExportTraceServiceRequest`.
pub(crate) fn request(resource: &[(String, String)], spans: &[Span]) -> Json {
    let resource: Vec<Json> =
        resource.iter().map(|(name, value)| attribute(name, &Value::from(value.as_str()))).collect();
    json!({
        "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{
                "scope": { "name": "courant", "version": env!("CARGO_PKG_VERSION") },
                "spans": spans.iter().map(span).collect::<Vec<_>>(),
            }],
        }],
    })
}

fn span(span: &Span) -> Json {
    let mut shown = json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "name": span.name,
        "kind": kind(span.kind),
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": span.attributes.iter().map(|(name, value)| attribute(name, value)).collect::<Vec<_>>(),
        "links": span.links.iter().map(link).collect::<Vec<_>>(),
    });
    if let Some(parent) = span.parent {
        shown["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    if let Some(failure) = &span.failure {
        // 2: an error.
        shown["status"] = json!({ "code": 2, "message": failure });
    }
    shown
}

fn kind(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn link(to: &TraceContext) -> Json {
    json!({ "traceId": format!("{:032x}", to.trace), "spanId": format!("{:016x}", to.span) })
}

fn attribute(name: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Integer(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": name, "value": value })
}
