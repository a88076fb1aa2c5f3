//! What the generated histories are made of, told from the histories and not from the generator, so
//! that it cannot lose something without a test that fails.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use backstack_engine::Control;
use backstack_engine::git::Git;
use backstack_engine::replay::{Merge, Merger};
use git2::{MergeFileInput, Oid, Repository};

use crate::files::{Entry, Files};
use crate::history::{self, History, Line, Made, Rewrite};
use crate::object_id;
use crate::reference::WorkTree;
use crate::story::before;
use crate::tally::{Tally, plainest};

/// Everything that has to occur, and in how many of 400 histories at least. Each is met about twice
/// as often, or more.
const WANTED: [(&str, usize); 42] = [
    ("edit", 300),
    ("add", 250),
    ("delete", 250),
    ("rename", 150),
    ("rename with an edit", 80),
    ("renamed on trunk, edited in the stack", 15),
    ("edited on trunk, renamed in the stack", 25),
    ("renamed on both sides", 20),
    ("directory renamed on trunk", 8),
    ("directory renamed in the stack", 25),
    ("file added to a directory that the other side renamed", 3),
    ("mode change", 50),
    ("symbolic link", 120),
    ("submodule entry", 120),
    ("submodule changed on both sides", 1),
    ("file became a directory", 40),
    ("directory became a file", 40),
    ("file became a link", 25),
    ("binary file", 80),
    ("binary file changed on both sides", 1),
    ("carriage returns", 130),
    ("line ends changed", 20),
    ("merge=union on a file changed on both sides", 4),
    ("merge=binary on a file changed on both sides", 2),
    ("-text on a file changed on both sides", 4),
    (DIFFS_DIFFER, 2),
    ("empty commit", 70),
    ("commit already upstream", 30),
    ("root commit", 6),
    ("merge commit", 45),
    ("message not UTF-8", 120),
    ("author not UTF-8", 150),
    ("encoding header", 110),
    ("signature", 100),
    ("change-id header", 100),
    ("path not UTF-8", 120),
    ("deep tree", 15),
    ("wide tree", 15),
    ("parent amended", 6),
    ("parent reworded or made anew", 10),
    ("parent reset", 6),
    ("trunk made anew", 5),
];

const DIFFS_DIFFER: &str = "repeated lines, where Myers and histogram differ";

/// Which of these a history has.
fn of(history: &History) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for made in &history.commits {
        found.extend(in_text(made));
        found.extend(in_files(&made.files));
        if let Some(old) = before(history, made) {
            found.extend(in_change(old, &made.files));
        }
        found.extend(in_place(made));
        if made.line == Line::Trunk && is_in_stack(history, made) {
            found.insert("commit already upstream");
        }
    }
    for sides in both_sides(history) {
        found.extend(on_both_sides(sides));
    }
    if was_reset(history) {
        found.insert("parent reset");
    }
    found
}

/// The files of the base, of trunk, and of each branch.
fn both_sides(history: &History) -> impl Iterator<Item = [&Files; 3]> {
    let base = &history.commits[0].files;
    let trunk = &commit(history, history.onto).files;
    let heads = history.branches.iter().map(|branch| branch.head);
    heads.map(move |head| [base, trunk, &commit(history, head).files])
}

fn commit(history: &History, id: Oid) -> &Made {
    history.commits.iter().find(|made| made.id == id).unwrap()
}

fn in_text(made: &Made) -> Vec<&'static str> {
    let end = made.raw.windows(2).position(|window| window == b"\n\n");
    let (headers, message) = made.raw.split_at(end.unwrap());
    let headers: Vec<&[u8]> = headers.split(|byte| *byte == b'\n').collect();
    let has = |start: &[u8]| headers.iter().any(|line| line.starts_with(start));
    let not_utf8 = |bytes: &[u8]| std::str::from_utf8(bytes).is_err();
    let author = headers.iter().find(|line| line.starts_with(b"author "));
    [
        ("message not UTF-8", not_utf8(message)),
        ("author not UTF-8", not_utf8(author.unwrap())),
        ("encoding header", has(b"encoding ")),
        ("signature", has(b"gpgsig ")),
        ("change-id header", has(b"change-id ")),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}

fn in_files(files: &Files) -> Vec<&'static str> {
    let any = |test: &dyn Fn(&[u8], &Entry) -> bool| files.iter().any(|(p, e)| test(p, e));
    let slashes = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
    let mut entries: BTreeMap<&[u8], usize> = BTreeMap::new();
    for path in files.keys() {
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        *entries.entry(&path[..slash]).or_default() += 1;
    }
    [
        ("symbolic link", any(&|_, e| e.0 == 0o120_000)),
        ("submodule entry", any(&|_, e| e.0 == 0o160_000)),
        ("binary file", any(&|_, e| is_binary(e))),
        (
            "carriage returns",
            any(&|_, e| is_file(e) && e.1.contains(&b'\r')),
        ),
        (
            "path not UTF-8",
            any(&|path, _| std::str::from_utf8(path).is_err()),
        ),
        ("deep tree", any(&|path, _| slashes(path) > 5)),
        ("wide tree", entries.values().any(|count| *count > 100)),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect()
}

fn is_file(entry: &Entry) -> bool {
    entry.0 & 0o170_000 == 0o100_000
}

fn is_binary(entry: &Entry) -> bool {
    is_file(entry) && entry.1.contains(&0)
}

/// What one commit does.
fn in_change(old: &Files, new: &Files) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (path, was) in old {
        match new.get(path) {
            Some(is) if is.0 == was.0 && is.1 != was.1 && is_file(is) => {
                found.push("edit");
                let plain = |entry: &Entry| without_carriage_returns(&entry.1);
                if plain(is) == plain(was) {
                    found.push("line ends changed");
                }
            }
            Some(is) if is_file(is) && is_file(was) && is.0 != was.0 => found.push("mode change"),
            Some(is) if is_file(was) && is.0 == 0o120_000 => found.push("file became a link"),
            Some(_) => {}
            None if new.keys().any(|other| is_inside(other, path)) => {
                found.push("file became a directory");
            }
            None => found.push("delete"),
        }
    }
    for path in new.keys().filter(|path| !old.contains_key(*path)) {
        let came_over = old.keys().any(|other| is_inside(other, path));
        found.push(if came_over {
            "directory became a file"
        } else {
            "add"
        });
    }
    if old == new {
        found.push("empty commit");
    }
    for (_, _, same) in renames(old, new) {
        found.push(if same {
            "rename"
        } else {
            "rename with an edit"
        });
    }
    found
}

fn without_carriage_returns(text: &[u8]) -> Vec<u8> {
    let kept = text.iter().filter(|byte| **byte != b'\r');
    kept.copied().collect()
}

fn is_inside(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.starts_with(b"/"))
}

/// Files that are gone and stand elsewhere, as they were or much as they were: from, to, and whether
/// nothing else was changed.
fn renames<'a>(old: &'a Files, new: &'a Files) -> Vec<(&'a [u8], &'a [u8], bool)> {
    let gone = old
        .iter()
        .filter(|(path, entry)| !new.contains_key(*path) && is_file(entry) && entry.1.len() > 20);
    gone.filter_map(|(from, was)| {
        let came = new
            .iter()
            .filter(|(path, entry)| !old.contains_key(*path) && is_file(entry));
        if let Some((to, _)) = came.clone().find(|(_, is)| is.1 == was.1) {
            return Some((from.as_slice(), to.as_slice(), true));
        }
        let as_long = came.filter(|(_, is)| {
            let (short, long) = (is.1.len().min(was.1.len()), is.1.len().max(was.1.len()));
            short * 100 >= long * LIKE
        });
        as_long
            .map(|(to, is)| (to, likeness(&was.1, &is.1)))
            .max_by_key(|(_, likeness)| *likeness)
            .filter(|(_, likeness)| *likeness >= LIKE)
            .map(|(to, _)| (from.as_slice(), to.as_slice(), false))
    })
    .collect()
}

/// How much two files must have in common, in a hundred, for one to be the other renamed.
const LIKE: usize = 60;

/// How much of the longer of two files stands in both, in a hundred, line by line.
fn likeness(a: &[u8], b: &[u8]) -> usize {
    let mut lines: BTreeMap<&[u8], usize> = BTreeMap::new();
    for line in a.split_inclusive(|byte| *byte == b'\n') {
        *lines.entry(line).or_default() += 1;
    }
    let mut shared = 0;
    for line in b.split_inclusive(|byte| *byte == b'\n') {
        if let Some(left) = lines.get_mut(line).filter(|left| **left > 0) {
            *left -= 1;
            shared += line.len();
        }
    }
    shared * 100 / a.len().max(b.len()).max(1)
}

/// Where a commit was made, and how.
fn in_place(made: &Made) -> Vec<&'static str> {
    let mut found = Vec::new();
    match made.line {
        Line::Stack if made.parents.is_empty() => found.push("root commit"),
        Line::Stack if made.parents.len() > 1 => found.push("merge commit"),
        Line::Trunk if made.parents.is_empty() => found.push("trunk made anew"),
        Line::Rewritten(Rewrite::Amended) => found.push("parent amended"),
        Line::Rewritten(_) => found.push("parent reworded or made anew"),
        _ => {}
    }
    found
}

/// A path, and what was there and is there.
type Difference = (Vec<u8>, Option<Entry>, Option<Entry>);

/// Whether a commit of the stack makes the same change as this one of trunk.
fn is_in_stack(history: &History, made: &Made) -> bool {
    let change = |made: &Made| -> Option<Vec<Difference>> {
        let old = before(history, made)?;
        let paths: BTreeSet<&Vec<u8>> = old.keys().chain(made.files.keys()).collect();
        let differing = paths.into_iter().filter_map(|path| {
            let (was, is) = (old.get(path).cloned(), made.files.get(path).cloned());
            (was != is).then(|| (path.clone(), was, is))
        });
        Some(differing.collect()).filter(|change: &Vec<_>| !change.is_empty())
    };
    let this = change(made);
    let stack = history.commits.iter().filter(|m| m.line == Line::Stack);
    this.is_some() && stack.map(change).any(|other| other == this)
}

/// What trunk and the stack did to the same thing since the base.
fn on_both_sides([base, trunk, stack]: [&Files; 3]) -> Vec<&'static str> {
    let mut found = Vec::new();
    let changed = |side: &Files, path: &[u8]| {
        let (was, is) = (base.get(path), side.get(path));
        was != is && was.is_some() && is.is_some()
    };
    let (on_trunk, in_stack) = (renames(base, trunk), renames(base, stack));
    for (from, ..) in &on_trunk {
        if changed(stack, from) {
            found.push("renamed on trunk, edited in the stack");
        }
        if in_stack.iter().any(|(other, ..)| other == from) {
            found.push("renamed on both sides");
        }
    }
    if in_stack.iter().any(|(from, ..)| changed(trunk, from)) {
        found.push("edited on trunk, renamed in the stack");
    }
    for (renames, side, other, name) in [
        (&on_trunk, trunk, stack, "directory renamed on trunk"),
        (&in_stack, stack, trunk, "directory renamed in the stack"),
    ] {
        for dir in renamed_directories(renames, side) {
            found.push(name);
            if other
                .keys()
                .any(|path| is_inside(path, dir) && !base.contains_key(path))
            {
                found.push("file added to a directory that the other side renamed");
            }
        }
    }
    let of_both = base
        .iter()
        .filter(|(path, _)| changed(trunk, path) && changed(stack, path));
    for (path, was) in of_both {
        if trunk[path] == stack[path] {
            continue;
        }
        if was.0 == 0o160_000 {
            found.push("submodule changed on both sides");
        }
        if is_binary(was) {
            found.push("binary file changed on both sides");
        }
        for (attribute, name) in [
            ("merge=union", "merge=union on a file changed on both sides"),
            (
                "merge=binary",
                "merge=binary on a file changed on both sides",
            ),
            ("-text", "-text on a file changed on both sides"),
        ] {
            if is_file(was) && has_attribute(trunk, path, attribute) {
                found.push(name);
            }
        }
    }
    found
}

/// Directories of which nothing is left and of whose files two or more stand elsewhere now.
fn renamed_directories<'a>(renames: &[(&'a [u8], &'a [u8], bool)], side: &Files) -> Vec<&'a [u8]> {
    let dir_of = |path: &'a [u8]| {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        slash.map(|at| &path[..at])
    };
    let mut moved: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (from, to, _) in renames {
        if let Some(dir) = dir_of(from).filter(|dir| dir_of(to) != Some(dir)) {
            *moved.entry(dir).or_default() += 1;
        }
    }
    moved
        .into_iter()
        .filter(|(dir, count)| *count > 1 && !side.keys().any(|path| is_inside(path, dir)))
        .map(|(dir, _)| dir)
        .collect()
}

/// Whether a line with this attribute, in an attributes file above the path, is about it.
fn has_attribute(files: &Files, path: &[u8], attribute: &str) -> bool {
    let name_at = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let name = String::from_utf8_lossy(&path[name_at..]).into_owned();
    let above = path
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at + 1);
    std::iter::once(0)
        .chain(above)
        .filter_map(|end| files.get(&[&path[..end], b".gitattributes"].concat()))
        .filter(|entry| is_file(entry))
        .flat_map(|(_, content)| {
            String::from_utf8_lossy(content)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|line| {
            line.split_once(' ')
                .map(|(p, a)| (p.to_owned(), a.to_owned()))
        })
        .any(|(pattern, attributes)| attributes == attribute && matches(&pattern, &name))
}

/// Patterns have a star at one end, or none.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => pattern == name,
    }
}

/// Whether a file merges otherwise with Myers' diff, which libgit2 uses, than with git's.
fn histogram_differs(repo: &Repository, merger: &mut Merger, sides: [&Files; 3]) -> bool {
    let [base, ours, theirs] = sides;
    base.keys().any(|path| {
        let texts: Vec<&[u8]> = [base, ours, theirs]
            .iter()
            .filter_map(|side| side.get(path).filter(|e| is_file(e) && !is_binary(e)))
            .map(|entry| entry.1.as_slice())
            .collect();
        let &[base, ours, theirs] = &texts[..] else {
            return false;
        };
        if base == ours || base == theirs || ours == theirs {
            return false;
        }
        let tree = |text: &[u8]| {
            let mut builder = repo.treebuilder(None).unwrap();
            builder
                .insert("f", repo.blob(text).unwrap(), 0o100_644)
                .unwrap();
            object_id(builder.write().unwrap())
        };
        let by_histogram = merger
            .merge_trees(tree(base), tree(ours), tree(theirs))
            .unwrap();
        let by_myers = myers(base, ours, theirs);
        match (by_histogram, by_myers) {
            (Merge::Clean(merged), Some(text)) => merged != tree(&text),
            (Merge::Conflict(_), None) => false,
            _ => true,
        }
    })
}

/// The merge by Myers' diff; `None` where that conflicts.
fn myers(base: &[u8], ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    let mut inputs = [(); 3].map(|()| MergeFileInput::new());
    for (input, content) in inputs.iter_mut().zip([base, ours, theirs]) {
        input.content(content);
    }
    let merged = git2::merge_file(&inputs[0], &inputs[1], &inputs[2], None).unwrap();
    merged.is_automergeable().then(|| merged.content().to_vec())
}

/// Whether a branch has lost a commit on which the one above stands, and got none for it.
fn was_reset(history: &History) -> bool {
    let own = |branch: &history::Branch| branch.base == Some(branch.head);
    history.branches.windows(2).any(|pair| {
        let lost = pair[1].base.filter(|base| *base != pair[0].head);
        let is_below = |lost| commit(history, lost).parents.contains(&pair[0].head);
        own(&pair[0]) || lost.is_some_and(is_below)
    })
}

#[test]
fn the_generator_makes_everything_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::init_bare(dir.path()).unwrap();
    let git = Git::discover(None).unwrap();
    let mut merger = Merger::open(repo.path(), &git, &Control::unbounded()).unwrap();
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 1..=400 {
        let history = history::write(&repo, seed);
        let mut found = of(&history);
        if both_sides(&history).any(|sides| histogram_differs(&repo, &mut merger, sides)) {
            found.insert(DIFFS_DIFFER);
        }
        for name in found {
            *tally.entry(name).or_default() += 1;
        }
    }
    eprintln!("of 400 histories have: {tally:#?}");
    let lost: Vec<_> = WANTED
        .iter()
        .map(|(name, least)| (name, tally.get(name).copied().unwrap_or(0), least))
        .filter(|(_, count, least)| count < least)
        .map(|(name, count, least)| format!("{name}: {count} instead of {least}"))
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
    let wanted = WANTED.map(|(name, _)| name);
    let unknown: Vec<_> = tally.keys().filter(|name| !wanted.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// With something in the place of a comparison that is wrong about just one thing.
#[test]
fn a_failure_shrinks_to_little_more_than_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::init_bare(dir.path()).unwrap();
    for (cause, commits) in [
        ("renamed on trunk, edited in the stack", 5),
        ("parent amended", 5),
    ] {
        let failing = (1..)
            .map(|seed| history::write(&repo, seed))
            .find(|history| of(history).contains(cause))
            .unwrap();
        let made = Cell::new(usize::MAX);
        let wrong = |_: &WorkTree, history: &History| {
            of(history).contains(cause).then(|| {
                made.set(history.commits.len());
                String::new()
            })
        };
        let told = plainest(&failing, &wrong).unwrap();
        assert!(made.get() <= commits, "{cause}: {told}");
        assert!(
            failing.commits.len() > commits,
            "{cause}: it was not plain before"
        );
    }
}

/// The real comparison, wrong about just one thing: that git drops commits.
#[test]
fn a_history_that_the_real_comparison_fails_at_shrinks_too() {
    let wrong = |work_tree: &WorkTree, history: &History| {
        let mut tally = Tally::default();
        tally.all(work_tree, &[history]);
        (tally.dropped > 0).then(String::new)
    };
    let dir = tempfile::tempdir().unwrap();
    let work_tree = WorkTree::init(dir.path());
    let failing = (1..)
        .map(|seed| history::write(work_tree.repo(), seed))
        .find(|history| wrong(&work_tree, history).is_some())
        .unwrap();
    let told = plainest(&failing, &wrong).unwrap();
    let commits = told.lines().filter(|line| line.contains(", on [")).count();
    assert_eq!(commits, 3, "base, change, and that on trunk: {told}");
}
