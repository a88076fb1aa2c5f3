//! The schemas in `json/` are those of the types.

use std::collections::BTreeSet;
use std::path::Path;

use backstack_schemas::json::{json_schemas, to_file};

#[test]
fn the_files_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
    for (name, schema) in json_schemas() {
        let kept = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert_eq!(
            kept,
            to_file(&schema),
            "{name} is not current; run: cargo run -p backstack-schemas --example write-json-schemas"
        );
    }
}

#[test]
fn there_is_no_file_without_a_type() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
    let kept: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let current: BTreeSet<_> = json_schemas().into_iter().map(|(name, _)| name).collect();
    assert_eq!(kept, current);
}
