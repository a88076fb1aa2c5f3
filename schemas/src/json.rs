//! JSON Schemas of every row and message, for those who read and write them from other languages.
//!
//! They are generated from the types, kept in `schemas/json/`, and a test checks that what is kept
//! is current; `cargo run -p backstack-schemas --example write-json-schemas` writes them anew.

use serde_json::{Value, json};

use crate::action::{ActionKind, payload_schema};
use crate::{Branch, Job, Repository, Task};

/// Every schema with the name of its file.
pub fn json_schemas() -> Vec<(String, Value)> {
    let rows = [
        ("repository", json!(schemars::schema_for!(Repository))),
        ("job", json!(schemars::schema_for!(Job))),
        ("branch", json!(schemars::schema_for!(Branch))),
        ("task", json!(schemars::schema_for!(Task))),
    ];
    let rows = rows.map(|(name, schema)| (format!("{name}.schema.json"), schema));
    let actions =
        ActionKind::ALL.map(|kind| (format!("action.{kind}.schema.json"), payload_schema(kind)));
    rows.into_iter().chain(actions).collect()
}

/// A schema as its file holds it: indented, with a newline at its end.
pub fn to_file(schema: &Value) -> String {
    format!("{schema:#}\n")
}
