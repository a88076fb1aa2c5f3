//! Branch names as git takes them: what the schemas accept against what the git command says.

use std::process::{Command, Stdio};

use backstack_schemas::BranchName;
use proptest::prelude::*;

/// Whether `git check-ref-format` takes it for a branch.
fn git_takes(name: &str) -> bool {
    Command::new("git")
        .args(["check-ref-format", "--branch", name])
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Names that this command would take and that are refused all the same: full refs, what is too
/// long for a key, and `@`, which stands for `HEAD` wherever git reads a revision.
fn is_refused_on_purpose(name: &str) -> bool {
    name.starts_with("refs/heads/") || name.len() > 1_000 || name == "@"
}

/// Names at the edges of git's rules.
fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("é"),
        Just("."),
        Just(".."),
        Just(".lock"),
        Just("/"),
        Just("@"),
        Just("@{"),
        Just("{"),
        Just("-"),
        Just("HEAD"),
        Just("refs/heads/"),
        Just(" "),
        Just("~"),
        Just("^"),
        Just(":"),
        Just("?"),
        Just("*"),
        Just("["),
        Just("]"),
        Just("\\"),
        Just("\u{7f}"),
        Just("\u{85}"),
        Just("\t"),
        Just("="),
        Just("\""),
    ];
    prop_oneof![
        3 => proptest::collection::vec(part, 1..5).prop_map(|parts| parts.concat()),
        1 => "[a-z]{1,3}(/[a-z.]{1,3})?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_name_is_taken_exactly_where_git_takes_it(name in name()) {
        let taken = name.parse::<BranchName>().is_ok();
        if taken || !is_refused_on_purpose(&name) {
            prop_assert_eq!(taken, git_takes(&name), "{:?}", name);
        }
    }
}
