//! The JSON Schema of each action's payload, made from the table that decoding uses.

use serde_json::{Map, Value, json};

use super::fields::COMMON_FIELDS;
use super::{ActionKind, MAX_REQUESTED_BY};
use crate::id::{BranchName, JobId, ObjectId, TaskId};

/// The JSON Schema of the payload of `kind`, made from the same table that decoding uses.
pub fn payload_schema(kind: ActionKind) -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut schema_of = |name: &str| match name {
        "job_id" | "retry_of" => json!(generator.subschema_for::<JobId>()),
        "task_id" => json!(generator.subschema_for::<TaskId>()),
        "branch" | "parent" => json!(generator.subschema_for::<BranchName>()),
        "base" => json!(generator.subschema_for::<ObjectId>()),
        "requested_by" => json!({"type": "string", "maxLength": MAX_REQUESTED_BY}),
        _ => json!({"type": "boolean", "default": false}),
    };
    let mut properties = Map::new();
    for name in kind
        .fields()
        .iter()
        .map(|field| field.name)
        .chain(COMMON_FIELDS)
    {
        properties.insert(name.to_owned(), schema_of(name));
    }
    let required: Vec<_> = kind
        .fields()
        .iter()
        .filter(|f| f.required)
        .map(|f| f.name)
        .collect();
    for (name, schema) in &mut properties {
        if !required.contains(&name.as_str()) {
            *schema = json!({"anyOf": [schema.take(), {"type": "null"}]});
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.as_str(),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
