//! `sluice schema`: the configuration as JSON Schema, for editors. Made from `config/reference.toml`, which a test holds equal to the
//! code: so there is no second list of keys. What a value may say beyond its type is `sluice check`'s to tell.

use serde_json::{Map, Value, json};

/// Every key with its default, and the reason for it.
const REFERENCE: &str = include_str!("../../config/reference.toml");

/// Tables whose keys are names that the operator chooses, by their path with `*` for such names.
const NAMED: [&str; 10] = [
    "service",
    "service.*.versions",
    "service.*.errors.files",
    "service.*.errors.texts",
    "service.*.request_headers.set",
    "service.*.request_headers.add",
    "service.*.response_headers.set",
    "service.*.response_headers.add",
    "errors.files",
    "errors.texts",
];

/// Keys that take one value or a list of them.
const ONE_OR_MANY: [&str; 9] = [
    "admin.tls.client_crl",
    "listener.tls.client_auth.crl",
    "errors.intercept",
    "service.*.match",
    "service.*.errors.intercept",
    "service.*.health.status",
    "service.*.eject.on",
    "service.*.rollout.guard.errors",
    "service.*.compression.codings",
];

/// Keys whose value in the reference is an example, not a default.
const EXAMPLES: [&str; 6] =
    ["listener.name", "listener.bind", "service.*.match", "service.*.nodes", "service.*.versions", "trusted_proxies"];

/// The schema.
pub fn schema() -> Value {
    let (text, told) = told();
    let root = text.parse::<toml::Table>().map_or_else(
        |_| json!({}),
        |table| {
            let value = serde_json::to_value(table).unwrap_or_default();
            described("", &[&value], &told)
        },
    );
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sluice configuration",
    });
    if let (Value::Object(schema), Value::Object(root)) = (&mut schema, root) {
        schema.extend(root);
    }
    schema
}

/// What the reference says of a key.
#[derive(Debug)]
struct Told {
    path: String,
    text: String,
    /// Whether it is off, or has no fixed default.
    off: bool,
}

/// The reference with every option switched on, and what its comments say.
fn told() -> (String, Vec<Told>) {
    let mut told: Vec<Told> = Vec::new();
    let (mut lines, mut comment, mut table) = (Vec::new(), Vec::new(), String::new());
    let mut open = 0;
    for line in REFERENCE.lines() {
        // A `#` straight before a word or a header is an option, `# ` begins a sentence.
        let option = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase() || "[\"".contains(first)));
        let (off, line) = (option.is_some(), option.unwrap_or(line));
        lines.push(line);
        if open > 0 {
            open += depth(line);
            continue;
        }
        if let Some(sentence) = line.strip_prefix("# ") {
            comment.push(sentence);
            continue;
        }
        let path = if line.starts_with('[') {
            table = general(line.trim_matches(['[', ']']));
            table.clone()
        } else if let Some((key, _)) = line.split_once(" = ") {
            open = depth(line).max(0);
            join(&table, key)
        } else {
            comment.clear();
            continue;
        };
        // The first time is where it is explained.
        if !comment.is_empty() && !told.iter().any(|known| known.path == path) {
            told.push(Told { path, text: comment.join(" "), off });
        }
        comment.clear();
    }
    (lines.join("\n"), told)
}

/// Brackets that a line leaves open.
fn depth(line: &str) -> i32 {
    line.chars().map(|character| i32::from("[{".contains(character)) - i32::from("]}".contains(character))).sum()
}

/// `service.shop.health` as `service.*.health`.
fn general(header: &str) -> String {
    let mut parts: Vec<&str> = header.split('.').collect();
    if let ["service", name, ..] = &mut parts[..] {
        *name = "*";
    }
    parts.join(".")
}

fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// The schema of what stands at a path, by all the samples of it.
fn described(path: &str, samples: &[&Value], told: &[Told]) -> Value {
    let mut schema = shape(path, samples, told);
    let about = told.iter().find(|known| known.path == path);
    if let (Value::Object(schema), Some(about)) = (&mut schema, about) {
        schema.insert("description".into(), json!(about.text));
        let plain = samples.iter().find(|sample| !sample.is_object());
        if let Some(sample) =
            plain.filter(|sample| !sample.as_array().is_some_and(|list| list.iter().any(Value::is_object)))
        {
            if about.off || EXAMPLES.contains(&path) {
                schema.insert("examples".into(), json!([sample]));
            } else {
                schema.insert("default".into(), (*sample).clone());
            }
        }
    }
    schema
}

fn shape(path: &str, samples: &[&Value], told: &[Told]) -> Value {
    let tables: Vec<_> = samples.iter().filter_map(|sample| sample.as_object()).collect();
    let lists: Vec<_> = samples.iter().filter_map(|sample| sample.as_array()).collect();
    let mut kinds = Vec::new();
    if !tables.is_empty() {
        kinds.push(self::table(path, &tables, told));
    }
    if !lists.is_empty() {
        let items: Vec<&Value> = lists.into_iter().flatten().collect();
        // `trusted_proxies = []` says nothing of what may be in it, but all lists without tables are of texts or numbers.
        let items = if items.is_empty() { json!({"type": "string"}) } else { shape(path, &items, told) };
        kinds.push(json!({"type": "array", "items": items}));
    }
    for (kind, is) in [
        ("string", Value::is_string as fn(&Value) -> bool),
        ("integer", Value::is_i64),
        ("number", Value::is_f64),
        ("boolean", Value::is_boolean),
    ] {
        if samples.iter().any(|sample| is(sample)) {
            kinds.push(json!({"type": kind}));
        }
    }
    if ONE_OR_MANY.contains(&path) && samples.iter().any(|sample| sample.is_array() || sample.is_string()) {
        let one = json!({"type": ["string", "integer"]});
        return json!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]});
    }
    match kinds.len() {
        0 => json!({}),
        1 => kinds.remove(0),
        _ => json!({"anyOf": kinds}),
    }
}

fn table(path: &str, samples: &[&Map<String, Value>], told: &[Told]) -> Value {
    if NAMED.contains(&path) {
        let values: Vec<&Value> = samples.iter().flat_map(|table| table.values()).collect();
        let any = if values.is_empty() { json!({}) } else { described(&join(path, "*"), &values, told) };
        return json!({"type": "object", "additionalProperties": any});
    }
    let mut keys: Vec<&String> = samples.iter().flat_map(|table| table.keys()).collect();
    keys.sort();
    keys.dedup();
    let properties: Map<_, _> = keys
        .into_iter()
        .map(|key| {
            let values: Vec<&Value> = samples.iter().filter_map(|table| table.get(key)).collect();
            (key.clone(), described(&join(path, key), &values, told))
        })
        .collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Why a value does not fit; knows what the schema uses.
    fn misfit(schema: &Value, value: &Value, at: &str) -> Option<String> {
        if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
            let all: Option<Vec<_>> = any.iter().map(|one| misfit(one, value, at)).collect();
            return all.map(|all| all.join("; "));
        }
        schema.get("type")?;
        let is = |kind: &Value| match kind.as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            other => panic!("{other:?} at {at}"),
        };
        let fits = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().any(is),
            kind => is(kind),
        };
        if !fits {
            return Some(format!("{at}: {value} is not {}", schema["type"]));
        }
        if let Some(items) = value.as_array() {
            return items
                .iter()
                .enumerate()
                .find_map(|(n, item)| misfit(&schema["items"], item, &format!("{at}[{n}]")));
        }
        value.as_object()?.iter().find_map(|(key, value)| {
            let at = join(at, key);
            match schema["properties"].get(key) {
                Some(schema) => misfit(schema, value, &at),
                None if schema["additionalProperties"].is_object() => {
                    misfit(&schema["additionalProperties"], value, &at)
                }
                None => Some(format!("{at} is unknown")),
            }
        })
    }

    fn fits(text: &str) -> Option<String> {
        let table: toml::Table = text.parse().unwrap();
        misfit(&schema(), &serde_json::to_value(table).unwrap(), "")
    }

    #[test]
    fn every_example_of_a_configuration_fits() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                assert_eq!(fits(&std::fs::read_to_string(&path).unwrap()), None, "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen >= 3);
        assert_eq!(fits(&told().0), None, "with every option switched on");
    }

    #[test]
    fn what_is_misspelt_or_of_another_type_does_not_fit() {
        for (text, place) in [
            ("worker = 2", "worker is unknown"),
            ("[service.shop]\nmatches = \"*\"", "service.shop.matches is unknown"),
            ("[service.shop.health]\nrise = \"2\"", "service.shop.health.rise"),
            ("[[listener]]\nname = 1", "listener[0].name"),
            ("[service.shop]\nnodes = [{ address = \"a:1\", wait = 1 }]", "wait is unknown"),
        ] {
            let why = fits(text).unwrap_or_else(|| panic!("{text} fits"));
            assert!(why.contains(place), "{why}");
        }
        for text in [
            "[service.a]\nmatch = \"*\"\nnodes = [\"a:1\", { address = \"b:1\", weight = 2 }]",
            "[service.a]\nmatch = [\"*\"]\nhealth = { status = [200, \"300-302\"] }",
            "[service.a.versions]\nv1 = [\"a:1\"]\n\"1.2\" = [\"b:1\"]",
        ] {
            assert_eq!(fits(text), None, "{text}");
        }
    }

    #[test]
    fn keys_are_explained_and_have_their_defaults() {
        let schema = schema();
        let service = &schema["properties"]["service"]["additionalProperties"]["properties"];
        let rise = &service["health"]["properties"]["rise"];
        assert_eq!(rise["default"], 2);
        assert!(rise["description"].as_str().unwrap().starts_with("Passes in a row"));
        let path = &service["health"]["properties"]["path"];
        assert_eq!((&path["default"], &path["examples"][0]), (&Value::Null, &json!("/healthz")));
        let unexplained: BTreeSet<_> = keys("", &schema, &mut Vec::new())
            .into_iter()
            .filter(|(path, schema)| {
                schema["description"].is_null()
                    && !NAMED.iter().any(|named| path.starts_with(named) && path.ends_with(".*"))
            })
            .map(|(path, _)| path)
            .collect();
        // What these are is said where they are lists.
        assert!(unexplained.len() < 25, "{unexplained:#?}");
    }

    fn keys(path: &str, schema: &Value, found: &mut Vec<(String, Value)>) -> Vec<(String, Value)> {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            let path = join(path, key);
            found.push((path.clone(), value.clone()));
            keys(&path, value, found);
            keys(&path, &value["items"], found);
        }
        if schema["additionalProperties"].is_object() {
            keys(&join(path, "*"), &schema["additionalProperties"], found);
        }
        found.clone()
    }
}
