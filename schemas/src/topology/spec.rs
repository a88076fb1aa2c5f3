//! What a stream or consumer must be, held against what it is.

use serde_json::{Map, Value};

/// A stream (a bucket is one too) and the settings it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// The stream's name.
    pub name: String,
    /// Its configuration, as `$JS.API.STREAM.CREATE` takes it.
    pub config: Value,
}

/// A consumer and the settings it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// The stream it reads.
    pub stream: String,
    /// Its durable name.
    pub name: String,
    /// Its configuration, as the `config` member of `$JS.API.CONSUMER.CREATE` takes it.
    pub config: Value,
}

/// One setting that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{of}: {setting} is {is}, but must be {must_be}")]
pub struct Mismatch {
    /// The stream, bucket or consumer.
    pub of: String,
    /// The setting, as the JetStream API spells it.
    pub setting: String,
    /// What it is.
    pub is: Value,
    /// What it must be.
    pub must_be: Value,
}

impl StreamSpec {
    /// Every setting of `actual`, a stream's configuration as the server tells it, that is not what
    /// it must be.
    pub fn mismatches(&self, actual: &Value) -> Vec<Mismatch> {
        mismatches(&self.name, &self.config, actual)
    }
}

impl ConsumerSpec {
    /// The same for a consumer's configuration.
    pub fn mismatches(&self, actual: &Value) -> Vec<Mismatch> {
        mismatches(
            &format!("{} {}", self.stream, self.name),
            &self.config,
            actual,
        )
    }
}

fn mismatches(of: &str, expected: &Value, actual: &Value) -> Vec<Mismatch> {
    let none = Map::new();
    let expected = expected.as_object().unwrap_or(&none);
    expected
        .iter()
        .filter(|(setting, must_be)| !same(must_be, &actual[setting.as_str()]))
        .map(|(setting, must_be)| Mismatch {
            of: of.to_owned(),
            setting: setting.clone(),
            is: actual[setting.as_str()].clone(),
            must_be: must_be.clone(),
        })
        .collect()
}

/// Whether two settings are the same. The server leaves out what is false, zero or empty, and adds
/// members to objects that we did not ask about.
fn same(must_be: &Value, is: &Value) -> bool {
    match (must_be, is) {
        (Value::Object(must_be), Value::Object(is)) => must_be
            .iter()
            .all(|(name, value)| same(value, is.get(name).unwrap_or(&Value::Null))),
        (Value::Array(must_be), Value::Array(is)) => {
            must_be.len() == is.len() && must_be.iter().zip(is).all(|(m, i)| same(m, i))
        }
        (must_be, Value::Null) => is_default(must_be),
        (must_be, is) => must_be == is,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}
