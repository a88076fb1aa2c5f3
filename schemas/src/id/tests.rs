//! Ids and names.

use proptest::prelude::*;

use super::*;

#[test]
fn repository_names_are_one_lower_case_token() {
    for good in ["web", "0", "a_b-c", &"x".repeat(63)] {
        assert!(good.parse::<RepoId>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "-web",
        "_web",
        "Web",
        "a.b",
        "a b",
        "*",
        ">",
        "é",
        &"x".repeat(64),
    ] {
        assert!(bad.parse::<RepoId>().is_err(), "{bad}");
    }
}

#[test]
fn branch_names_follow_git() {
    for good in [
        "main",
        "fix/a.b",
        "ünïcode/é",
        "a@b",
        "feature-1",
        "@a",
        "x/HEAD",
    ] {
        assert!(good.parse::<BranchName>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "-x",
        "HEAD",
        "@",
        "a..b",
        "a@{b",
        "a.",
        ".a",
        "x/.a",
        "a.lock",
        "a.lock/b",
        "a b",
        "a~b",
        "a^b",
        "a:b",
        "a?b",
        "a*b",
        "a[b",
        "a\\b",
        "/a",
        "a/",
        "a//b",
        "a\tb",
        "a\u{7f}",
        "refs/heads/a",
        &"x".repeat(1001),
    ] {
        assert!(bad.parse::<BranchName>().is_err(), "{bad}");
    }
}

#[test]
fn a_bad_name_is_named_in_the_error() {
    let error = "a..b".parse::<BranchName>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "branch name \"a..b\" contains '..' or '@{', is '@' or ends with '.', which git refuses"
    );
}

#[test]
fn branch_keys_escape_what_nats_would_read() {
    let key = |name: &str| name.parse::<BranchName>().unwrap().to_key();
    assert_eq!(key("fix/a.b"), "fix/a=2Eb");
    assert_eq!(key("é"), "=C3=A9");
    assert_eq!(key("a=b"), "a=3Db");
}

#[test]
fn only_the_one_spelling_of_a_branch_key_is_read() {
    for bad in ["a=2", "a=2e", "a=zz", "=61", "a.b", "a=", "=FF"] {
        assert!(BranchName::from_key(bad).is_err(), "{bad}");
    }
}

#[test]
fn uuids_are_canonical_only() {
    let canonical = "01999999-9999-7999-8999-99999999abcd";
    assert_eq!(canonical.parse::<JobId>().unwrap().to_string(), canonical);
    for bad in [
        &canonical.to_uppercase(),
        &canonical.replace('-', ""),
        "{}",
        "",
    ] {
        assert!(bad.parse::<JobId>().is_err(), "{bad}");
    }
}

#[test]
fn message_ids_are_read_bare_or_with_their_own_repository() {
    let repo: RepoId = "web".parse().unwrap();
    let id = JobId::generate();
    assert_eq!(JobId::from_message_id(&id.to_string(), &repo), Some(id));
    assert_eq!(
        JobId::from_message_id(&format!("web.{id}"), &repo),
        Some(id)
    );
    assert_eq!(JobId::from_message_id(&format!("api.{id}"), &repo), None);
    assert_eq!(JobId::from_message_id("once-a-day", &repo), None);
}

#[test]
fn a_derived_id_depends_on_stream_sequence_and_time() {
    let id = JobId::derived("BACKSTACK_ACTIONS", 7, 1_000);
    assert_eq!(id, JobId::derived("BACKSTACK_ACTIONS", 7, 1_000));
    for other in [
        ("OTHER", 7, 1_000),
        ("BACKSTACK_ACTIONS", 8, 1_000),
        ("BACKSTACK_ACTIONS", 7, 1),
    ] {
        assert_ne!(id, JobId::derived(other.0, other.1, other.2));
    }
}

/// Valid branch names, most of them with bytes that a key has to escape.
fn branch_name() -> impl Strategy<Value = BranchName> {
    let part = "[a-zA-Z0-9_=.,@!é漢🦀-]{1,8}";
    proptest::collection::vec(part, 1..4)
        .prop_map(|parts| parts.join("/"))
        .prop_filter_map("git takes no such name", |name| name.parse().ok())
}

proptest! {
    #[test]
    fn every_branch_has_one_key_and_every_key_one_branch(one in branch_name(), other in branch_name()) {
        let key = one.to_key();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_/-".contains(&b);
        prop_assert!(key.bytes().all(|b| plain(b) || b == b'='), "{}", key);
        prop_assert_eq!(BranchName::from_key(&key), Ok(one.clone()));
        prop_assert_eq!(one == other, key == other.to_key());
        // Each byte by itself, as the contract says.
        let by_bytes: String = one
            .as_str()
            .bytes()
            .map(|b| if plain(b) { char::from(b).to_string() } else { format!("={b:02X}") })
            .collect();
        prop_assert_eq!(&key, &by_bytes);
        prop_assert!(key.len() <= 3 * MAX_BRANCH_BYTES);
    }

    #[test]
    fn a_key_that_is_spelt_otherwise_is_refused(branch in branch_name(), at: prop::sample::Index, byte in 0u8..128) {
        let key = branch.to_key();
        let mut other = key.clone().into_bytes();
        other[at.index(key.len())] = byte;
        // What was changed is either refused or names another branch.
        if let Ok(read) = BranchName::from_key(&String::from_utf8(other.clone()).unwrap()) {
            prop_assert_eq!(read.to_key().into_bytes(), other.clone());
            prop_assert_eq!(read == branch, other == key.as_bytes());
        }
        let lower = key.replace("=C3", "=c3");
        prop_assert_eq!(BranchName::from_key(&lower).is_ok(), lower == key);
        // An escape of what needs none.
        let escaped = format!("={:02X}", key.as_bytes()[0]) + &key[1..];
        prop_assert!(key.starts_with('=') || BranchName::from_key(&escaped).is_err());
    }

    #[test]
    fn no_bytes_make_reading_a_key_panic(key in "[=0-9A-Fa-f+/.é]{0,24}") {
        if let Ok(branch) = BranchName::from_key(&key) {
            prop_assert_eq!(branch.to_key(), key);
        }
    }

    #[test]
    fn branch_keys_round_trip(name in "\\PC{1,40}") {
        if let Ok(branch) = name.parse::<BranchName>() {
            let key = branch.to_key();
            let nats = |b: u8| b.is_ascii_alphanumeric() || b"_/=-".contains(&b);
            prop_assert!(key.bytes().all(nats));
            prop_assert_eq!(BranchName::from_key(&key).unwrap(), branch);
        }
    }

    #[test]
    fn any_key_either_reads_back_the_same_or_is_refused(key in ".{0,40}") {
        if let Ok(branch) = BranchName::from_key(&key) {
            prop_assert_eq!(branch.to_key(), key);
        }
    }

    #[test]
    fn object_ids_round_trip(bytes: [u8; 20]) {
        let id = ObjectId::from_bytes(bytes);
        prop_assert_eq!(id.to_string().parse::<ObjectId>().unwrap(), id);
    }
}
