//! The engine's replay against real `git rebase --onto`, on generated histories.
//!
//! Promise under test: for each branch the engine and git agree on clean or conflict, on the
//! conflicted paths and their kinds, on each new commit's tree, author and message, and on what
//! was dropped. The differences on purpose are listed in the replay module.
//!
//! `BACKSTACK_CASES` says how many histories, `BACKSTACK_SEED` the first one's seed. A failure
//! names its seed and tells the plainest history that was found to fail in the same way, by
//! proptest's shrinking; `BACKSTACK_CASES=1 BACKSTACK_SEED=<seed>` is the first history alone, and
//! `BACKSTACK_KEEP=<dir>` keeps its repository there.
//!
//! | question | module |
//! |---|---|
//! | what is a history, what may happen in it? | `history`, `files`, `contents`, `texts` |
//! | where do choices come from, what is a plainer history? | `rng`, `shrink`, `story` |
//! | does the generator still make all it is for? | `ingredients` |
//! | what does git do? | `reference` |
//! | what does the engine do, and is it the same? | `tally`, `compare` |

mod compare;
mod contents;
mod files;
mod history;
mod ingredients;
mod reference;
mod rng;
mod shrink;
mod story;
mod tally;
mod texts;

use backstack_schemas::ObjectId;
use git2::Oid;

use tally::Tally;

/// Histories in one repository.
const BATCH: u64 = 50;

#[test]
fn replay_equals_git_rebase() {
    let cases = number("BACKSTACK_CASES").unwrap_or(60);
    let first = number("BACKSTACK_SEED").unwrap_or(1);
    let mut tally = Tally::default();
    let mut seed = first;
    while seed < first + cases {
        let end = (seed + BATCH).min(first + cases);
        tally.batch(seed..end);
        seed = end;
    }
    eprintln!("{cases} histories from seed {first}: {tally:?}");
    tally.judge(cases);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

/// libgit2's id as ours, and the other way round.
pub fn object_id(id: Oid) -> ObjectId {
    id.to_string().parse().unwrap()
}

/// Ours as libgit2's.
pub fn oid(id: ObjectId) -> Oid {
    Oid::from_bytes(id.as_bytes()).unwrap()
}
