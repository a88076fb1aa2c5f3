//! One file changed on both sides: the merge done here against the merge git does.
//!
//! Git's histogram diff tells changes of repetitive text apart in its own way, and with another
//! diff a merge may be clean where git's conflicts, or clean with other lines. The reference is
//! the same git, which counts as one whose diff is another (2.54), so that it merges every file
//! itself. `BACKSTACK_CASES` says how many times twenty merges, `BACKSTACK_SEED` the first one's seed.

#[path = "differential/rng.rs"]
#[allow(dead_code, reason = "the histories use all of it")]
mod rng;
mod support;

use backstack_engine::Control;
use backstack_engine::replay::{Merge, Merger};
use rng::Rng;
use support::{Setup, real_git};

#[test]
fn one_file_is_merged_as_git_merges_it() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let cases = number("BACKSTACK_CASES").unwrap_or(60) * 20;
    let first = number("BACKSTACK_SEED").unwrap_or(1);
    let setup = Setup::new();
    let by_git = setup.scripted_git("2.54.0", "exec \"$git\" \"$@\"");
    let control = Control::unbounded();
    let mut here = Merger::open(setup.git_dir(), &real_git(), &control).unwrap();
    let mut reference = Merger::open(setup.git_dir(), &by_git, &control).unwrap();
    let mut clean = 0;
    for seed in first..first + cases {
        let [base, ours, theirs] =
            sides(&mut Rng::new(seed)).map(|text| setup.tree(&[("f", &text)]));
        let merged = here.merge_trees(base, ours, theirs).unwrap();
        assert_eq!(
            merged,
            reference.merge_trees(base, ours, theirs).unwrap(),
            "seed {seed}"
        );
        clean += u64::from(matches!(merged, Merge::Clean(_)));
    }
    assert!(
        clean * 5 > cases && clean < cases,
        "{clean} of {cases} are clean"
    );
}

/// A repetitive text, and two versions of it.
fn sides(rng: &mut Rng) -> [String; 3] {
    let variety = rng.between(3, 9);
    let base: Vec<usize> = (0..rng.between(8, 90))
        .map(|_| rng.below(variety))
        .collect();
    let [ours, theirs] = [(); 2].map(|()| edited(&base, variety, rng));
    [base, ours, theirs].map(|lines| lines.into_iter().map(line).collect())
}

fn line(number: usize) -> String {
    const LINES: [&str; 7] = ["{", "}", "", "\tx();", "\ty();", "\tif (z)", "\treturn;"];
    match LINES.get(number) {
        Some(text) => format!("{text}\n"),
        None => format!("line {number}\n"),
    }
}

/// Runs of lines added, removed, repeated.
fn edited(base: &[usize], variety: usize, rng: &mut Rng) -> Vec<usize> {
    let mut lines = base.to_vec();
    for _ in 0..rng.between(1, 3) {
        let from = rng.below(lines.len() + 1);
        let to = (from + rng.between(0, 4)).min(lines.len());
        let run = match rng.below(3) {
            0 => Vec::new(),
            1 => lines[from..to].repeat(2),
            _ => (0..rng.between(1, 4))
                .map(|_| rng.below(variety + 2))
                .collect(),
        };
        lines.splice(from..to, run);
    }
    lines
}
