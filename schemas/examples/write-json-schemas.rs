//! Writes `schemas/json/*.schema.json` anew from the types.

use std::path::Path;

use backstack_schemas::json::{json_schemas, to_file};

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
    std::fs::create_dir_all(&folder)?;
    for (name, schema) in json_schemas() {
        std::fs::write(folder.join(&name), to_file(&schema))?;
        println!("{name}");
    }
    Ok(())
}
