use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use super::*;
use crate::http;

fn document(asked: Asked) -> Value {
    let calls = OpenApiRouter::with_openapi(begun())
        .merge(http::clip_calls())
        .merge(http::track_calls())
        .merge(http::health_calls());
    let mut document = calls.into_openapi();
    complete(&mut document, asked);
    serde_json::to_value(document).unwrap()
}

/// All calls with their names.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let calls = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    calls.collect()
}

#[test]
fn every_call_has_a_name_a_tag_words_and_its_problems() {
    let document = document(Asked { key: true, certificate: false });
    let operations = operations(&document);
    assert_eq!(operations.len(), 10, "{operations:?}");
    for (name, operation) in operations {
        for field in ["operationId", "summary"] {
            assert!(operation[field].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{name}");
        let is_open = operation["security"].as_array().unwrap().is_empty();
        let is_told = operation["responses"]["401"].is_object();
        assert_eq!(is_open, !is_told, "{name}");
        let of_document = ["health", "document"].contains(&operation["tags"][0].as_str().unwrap());
        assert_eq!(is_open, of_document, "{name}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let words = response["description"].as_str().unwrap_or_default();
            assert!(!words.is_empty(), "{name} {status}");
        }
    }
}

#[test]
fn what_clients_must_show_follows_the_server() {
    let security = |key, certificate| {
        let document = document(Asked { key, certificate });
        let of = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
        [of("/health/live", "get"), of("/v1/tracks/{track_id}", "get")]
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let either = r#"[{"key":["match"]},{"key":["ingest"]}]"#;
    assert_eq!(security(true, false), [json("[]"), json(either)]);
    let or_none = r#"[{"key":["match"]},{"key":["ingest"]},{}]"#;
    assert_eq!(security(false, false), [json("[]"), json(or_none)]);
    let both = r#"[{"certificate":[],"key":["match"]},{"certificate":[],"key":["ingest"]}]"#;
    assert_eq!(security(true, true), [json(r#"[{"certificate":[]}]"#), json(both)]);
}
