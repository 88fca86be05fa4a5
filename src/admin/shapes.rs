//! The JSON that the API speaks, for its description. A test holds it equal to what is really sent.
//!
//! A type is a word: `text`, `count` (a whole number, not negative), `number`, `flag`, `time` (milliseconds since 1970, UTC), or another shape's
//! name; `[…]` a list of it, `{…}` an object with values of it, and `?` behind it: or null.

use serde_json::{Value, json};

/// A shape: its name, what it is, and its fields.
type Shape = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// All of them.
pub(super) static SHAPES: &[Shape] = &[
    (
        "Status",
        "Everything that runs.",
        &[
            ("schema", "count"),
            ("sluice", "text"),
            ("pid", "count"),
            ("started", "time"),
            ("now", "time"),
            ("generation", "count"),
            ("ready", "flag"),
            ("load", "Load"),
            ("config", "ConfigStatus"),
            ("journal", "text?"),
            ("listeners", "[ListenerStatus]"),
            ("certificates", "CertificatesStatus"),
            ("services", "[ServiceStatus]"),
        ],
    ),
    (
        "Load",
        "The whole proxy's work since it started.",
        &[("connections", "count"), ("requests", "count"), ("errors", "count")],
    ),
    (
        "ConfigStatus",
        "What the files say against what runs.",
        &[("path", "text"), ("files", "[text]"), ("loaded", "time"), ("stale", "flag"), ("problems", "[Problem]")],
    ),
    (
        "Problem",
        "One error in a file, with its place.",
        &[
            ("path", "text"),
            ("line", "count"),
            ("column", "count"),
            ("text", "text"),
            ("width", "count"),
            ("message", "text"),
            ("hint", "text?"),
        ],
    ),
    ("ListenerStatus", "A listener.", &[("name", "text"), ("address", "text"), ("error", "text?")]),
    (
        "CertificatesStatus",
        "What listeners show, and bad files.",
        &[("list", "[CertificateStatus]"), ("problems", "[Problem]")],
    ),
    (
        "CertificateStatus",
        "A certificate.",
        &[
            ("listeners", "[text]"),
            ("file", "text"),
            ("names", "[text]"),
            ("not_before", "time"),
            ("not_after", "time"),
        ],
    ),
    (
        "ServiceStatus",
        "A service.",
        &[
            ("name", "text"),
            ("source", "text"),
            ("release", "text"),
            ("tag", "text"),
            ("change", "count"),
            ("phase", "text"),
            ("reason", "text?"),
            ("all_down", "flag"),
            ("halt", "HaltStatus?"),
            ("waiting", "count"),
            ("held", "count"),
            ("held_in_vain", "count"),
            ("rollout", "RolloutStatus?"),
            ("versions", "[VersionStatus]"),
            ("nodes", "[NodeStatus]"),
            ("refused", "[Refused]"),
            ("unsaved", "text?"),
        ],
    ),
    (
        "HaltStatus",
        "An operator stopped the traffic: `hold` or `maintenance`.",
        &[
            ("kind", "text"),
            ("since", "time"),
            ("until", "time?"),
            ("message", "text?"),
            ("retry_after", "count?"),
            ("by", "text"),
        ],
    ),
    (
        "RolloutStatus",
        "A rollout in progress.",
        &[
            ("from", "text?"),
            ("to", "text"),
            ("strategy", "text"),
            ("started", "time"),
            ("ready", "count"),
            ("wanted", "count"),
            ("deadline", "time?"),
            ("trial", "TrialStatus?"),
        ],
    ),
    (
        "TrialStatus",
        "A version that has a share and is judged.",
        &[
            ("share", "number"),
            ("step", "count"),
            ("steps", "[StepStatus]"),
            ("since", "time"),
            ("paused", "time?"),
            ("promoted", "flag"),
            ("evidence", "Evidence?"),
        ],
    ),
    (
        "StepStatus",
        "A configured step; without `hold_ms` it is held until it is promoted.",
        &[("share", "number"), ("hold_ms", "count?")],
    ),
    (
        "Evidence",
        "What the guard makes of a step.",
        &[("verdict", "text"), ("reason", "text"), ("new", "Sample"), ("old", "Sample"), ("judges", "[Opinion]")],
    ),
    (
        "Opinion",
        "What an outside judge says: pass, fail, hold, unavailable, or waiting for its first answer.",
        &[("judge", "text"), ("verdict", "text"), ("reason", "text")],
    ),
    (
        "Sample",
        "One version in the eyes of the guard.",
        &[
            ("requests", "count"),
            ("failures", "count"),
            ("kinds", "{count}"),
            ("rate", "number"),
            ("interval", "[number]"),
            ("p50", "number?"),
            ("p95", "number?"),
            ("p99", "number?"),
        ],
    ),
    (
        "VersionStatus",
        "A version's part of the traffic, in percent.",
        &[
            ("version", "text"),
            ("share", "number"),
            ("serving", "count"),
            ("nodes", "count"),
            ("requests", "count"),
            ("failures", "count"),
            ("shielded", "count"),
            ("shadowed", "count"),
            ("shadow_differed", "count"),
        ],
    ),
    (
        "NodeStatus",
        "A node.",
        &[
            ("version", "text"),
            ("address", "text"),
            ("state", "text"),
            ("since", "time"),
            ("reason", "text"),
            ("probe", "ProbeReport?"),
            ("weight", "count"),
            ("until", "time?"),
            ("in_flight", "count"),
            ("requests", "count"),
            ("failures", "count"),
            ("holders", "[Holder]"),
        ],
    ),
    (
        "ProbeReport",
        "A health probe's result.",
        &[
            ("at", "time"),
            ("target", "text"),
            ("passed", "flag"),
            ("status", "count?"),
            ("error", "text?"),
            ("took_ms", "count"),
            ("body", "text?"),
        ],
    ),
    (
        "Holder",
        "Work that holds a draining node open.",
        &[("kind", "text"), ("method", "text"), ("path", "text"), ("client", "text"), ("age_ms", "count")],
    ),
    (
        "Refused",
        "A version that is not tried again by itself.",
        &[("version", "text"), ("nodes", "[text]"), ("at", "time"), ("reason", "text"), ("outcome", "text")],
    ),
    (
        "HistoryEntry",
        "A finished rollout.",
        &[
            ("change", "count"),
            ("from", "text?"),
            ("to", "text"),
            ("nodes", "[text]"),
            ("strategy", "text"),
            ("started", "time"),
            ("finished", "time"),
            ("outcome", "text"),
            ("reason", "text"),
            ("cut", "[CutNode]"),
            ("steps", "[StepRecord]"),
            ("steered", "[Steered]"),
        ],
    ),
    ("CutNode", "Work that a drain deadline cut.", &[("address", "text"), ("version", "text"), ("work", "[Holder]")]),
    (
        "StepRecord",
        "A step that a rollout went through.",
        &[("share", "number"), ("started", "time"), ("ended", "time?"), ("evidence", "Evidence?")],
    ),
    ("Steered", "An operator steered it.", &[("at", "time"), ("steering", "text"), ("by", "text")]),
    (
        "Progress",
        "A moment of a change; `ended` is set in the last.",
        &[("service", "ServiceStatus"), ("ended", "Ended?")],
    ),
    ("Ended", "How a change ended.", &[("outcome", "text"), ("message", "text"), ("entry", "HistoryEntry?")]),
    (
        "Outline",
        "A configuration; settings are told as fingerprints, by section.",
        &[
            ("schema", "count"),
            ("sluice", "text"),
            ("settings", "{text}"),
            ("fixed", "{text}"),
            ("listeners", "{ListenerOutline}"),
            ("services", "{ServiceOutline}"),
        ],
    ),
    ("ListenerOutline", "A listener.", &[("bind", "text"), ("settings", "{text}")]),
    (
        "ServiceOutline",
        "A service.",
        &[
            ("source", "text"),
            ("release", "text"),
            ("versions", "{[text]}"),
            ("matches", "[text]"),
            ("settings", "{text}"),
        ],
    ),
    ("Whoami", "Who asks; the role is `read` or `operator`.", &[("name", "text"), ("role", "text")]),
    (
        "Event",
        "Something that happened.",
        &[
            ("id", "count"),
            ("at", "time"),
            ("kind", "text"),
            ("service", "text?"),
            ("version", "text?"),
            ("node", "text?"),
            ("message", "text"),
        ],
    ),
    ("Error", "Why a request was not carried out.", &[("error", "Fault")]),
    ("Fault", "One word for programs, and a sentence for people.", &[("kind", "text"), ("message", "text")]),
];

/// The schemas of all shapes.
pub(super) fn schemas() -> Value {
    let shape = |(name, about, fields): &Shape| {
        let properties: serde_json::Map<_, _> =
            fields.iter().map(|(field, kind)| ((*field).to_owned(), schema(kind))).collect();
        let required: Vec<_> = fields.iter().map(|(field, _)| *field).collect();
        let schema = json!({"type": "object", "description": about, "properties": properties, "required": required});
        ((*name).to_owned(), schema)
    };
    Value::Object(SHAPES.iter().map(shape).collect())
}

/// The schema of a type.
pub(super) fn schema(kind: &str) -> Value {
    if let Some(kind) = kind.strip_suffix('?') {
        return json!({"anyOf": [schema(kind), {"type": "null"}]});
    }
    if let Some(kind) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        return json!({"type": "array", "items": schema(kind)});
    }
    if let Some(kind) = kind.strip_prefix('{').and_then(|kind| kind.strip_suffix('}')) {
        return json!({"type": "object", "additionalProperties": schema(kind)});
    }
    match kind {
        "text" => json!({"type": "string"}),
        "count" => json!({"type": "integer", "minimum": 0}),
        "number" => json!({"type": "number"}),
        "flag" => json!({"type": "boolean"}),
        "time" => json!({"type": "integer", "description": "Milliseconds since 1970-01-01T00:00Z."}),
        shape => json!({"$ref": format!("#/components/schemas/{shape}")}),
    }
}
