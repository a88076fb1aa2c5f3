//! Makes a repository to measure on; see the module it uses for what is in it.
//!
//! `make_stack_repo OUT FILES BRANCHES COMMITS TRUNK [STACKS] [renames]`

use std::path::Path;

#[path = "../benches/stack_repo/mod.rs"]
mod stack_repo;

use stack_repo::{Shape, branch_name, make};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, files, branches, commits, trunk, more @ ..] = arguments.as_slice() else {
        return Err(
            "usage: make_stack_repo OUT FILES BRANCHES COMMITS TRUNK [STACKS] [renames]".into(),
        );
    };
    let stacks = more.first().filter(|text| *text != "renames");
    let shape = Shape {
        files: files.parse()?,
        stacks: stacks.map_or(Ok(1), |text| text.parse())?,
        branches: branches.parse()?,
        commits: commits.parse()?,
        trunk: trunk.parse()?,
        renames: more.iter().any(|text| text == "renames"),
    };
    make(Path::new(out), shape)?;
    let last = shape.branches.saturating_sub(1);
    println!(
        "{} to {}, {} stacks",
        branch_name(0, 0),
        branch_name(0, last),
        shape.stacks
    );
    Ok(())
}
