//! The API, described in OpenAPI 3.1: made from [`ENDPOINTS`] and [`SHAPES`](super::shapes::SHAPES), so that it cannot tell of anything else.

use serde_json::{Map, Value, json};

use super::endpoints::{Answers, ENDPOINTS, Endpoint, Needs};
use super::shapes::{schema, schemas};

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(methods) = path {
            methods.insert(endpoint.method.to_ascii_lowercase(), operation(endpoint));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "See everything, steer everything. Errors are `{\"error\": {\"kind\": …, \"message\": …}}`. Names in paths are percent-encoded; `+` stands for itself.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "responses": {
                "error": {
                    "description": "Why it was not carried out, and what to do next.",
                    "content": {"application/json": {"schema": schema("Error")}},
                },
            },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| {
        let about = if name == "node" { "Its address, as `status` shows it." } else { "Its name." };
        json!({"name": name, "in": "path", "required": true, "description": about, "schema": {"type": "string"}})
    });
    let in_query = endpoint.query.iter().map(|known| {
        let (name, about, required) = (known.name, known.about, known.required);
        json!({"name": name, "in": "query", "required": required, "description": about, "schema": {"type": "string"}})
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let (kind, schema) = match endpoint.answers {
        Answers::Text => ("text/plain", json!({"type": "string"})),
        Answers::Page(kind) => (kind, json!({"type": "string"})),
        Answers::Measures => ("application/openmetrics-text", json!({"type": "string"})),
        Answers::Document => ("application/json", json!({"type": "object"})),
        Answers::Json(shape) => ("application/json", schema(shape)),
        Answers::List(shape) => ("application/json", json!({"type": "array", "items": schema(shape)})),
        Answers::Events(shape) => ("text/event-stream", schema(shape)),
        Answers::Lines(shape) => ("application/x-ndjson", schema(shape)),
    };
    let role = match endpoint.needs {
        Needs::Nothing => "nobody",
        Needs::Reading => "read",
        Needs::Steering => "operator",
    };
    json!({
        "summary": endpoint.about,
        "operationId": name(endpoint),
        "parameters": parameters,
        "x-sluice-role": role,
        "responses": {
            "200": {"description": "Done.", "content": {kind: {"schema": schema}}},
            "default": {"$ref": "#/components/responses/error"},
        },
    })
}

/// A name that no other operation has: `post-services-service-promote`.
fn name(endpoint: &Endpoint) -> String {
    let parts = endpoint.path.split('/').filter(|part| !part.is_empty() && *part != "v1");
    let parts = parts.map(|part| part.trim_matches(['{', '}'])).collect::<Vec<_>>().join("-");
    let parts = if parts.is_empty() { "dashboard" } else { &parts };
    format!("{}-{parts}", endpoint.method.to_ascii_lowercase())
}
