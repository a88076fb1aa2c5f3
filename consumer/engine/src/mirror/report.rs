//! What a push's answer means. Pure: git's porcelain output and the remote's refs in, a verdict out.
//!
//! ```text
//!  porcelain ──► parse() ──► RefReport per ref ──► judge() ──► Verdict
//! ```
//!
//! In an atomic push one ref's failure is every ref's; each then carries a reason of its own, and
//! the reasons tell the culprits from those that failed along.

use backstack_schemas::{BranchName, ObjectId};

use super::push::{RefUpdate, Refusal};

/// What git says of one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefReport {
    /// The branch on the remote.
    pub branch: BranchName,
    /// What became of it.
    pub fate: Fate,
}

/// What became of one ref in a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is where it should be, by this push or before.
    Done,
    /// Git itself held it back: the lease does not hold.
    LeaseLost,
    /// It failed because another did.
    Along,
    /// A ref on the remote was locked or changed while the push was under way; the remote does not
    /// say which, or it is this one.
    Contended,
    /// The remote's `pre-receive` hook, or what stands for it, refused the push as a whole.
    WholeRefused(String),
    /// The remote could not store what was sent.
    NotStored(String),
    /// The connection broke before the remote said.
    Unanswered,
    /// The remote refuses this ref.
    Refused(String),
}

/// What a push that did not succeed comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These are elsewhere on the remote than their leases say.
    Moved(Vec<BranchName>),
    /// The remote refuses these; the others may be pushed without them.
    Refused(Vec<Refusal>),
    /// The remote refuses the push as a whole.
    WholeRefused,
    /// The remote could not store it.
    NotStored(String),
    /// The remote's refs must be read to know; the names are those in doubt.
    Unclear,
    /// Git says nothing of any ref; its standard error has to be classified.
    Silent,
}

/// Words in the remote's reasons for each fate but [`Fate::Refused`], which is what is left.
const REASONS: &[(&str, Reason)] = &[
    ("pre-receive hook declined", Reason::Whole),
    ("atomic push fail", Reason::Along),
    // All refs get this one, whether a ref was contended or a hook aborted the transaction.
    ("transaction failed", Reason::Contended),
    ("cannot lock ref", Reason::Contended),
    ("failed to update ref", Reason::Contended),
    ("failed to lock", Reason::Contended),
    ("incorrect old value", Reason::Contended),
    ("reference already exists", Reason::Contended),
    ("reference conflict", Reason::Contended),
    ("fetch first", Reason::Contended),
    ("unpacker error", Reason::NotStored),
    ("missing necessary objects", Reason::NotStored),
    ("Internal Server Error", Reason::NotStored),
];

#[derive(Clone, Copy)]
enum Reason {
    Whole,
    Along,
    Contended,
    NotStored,
}

/// The refs in what `git push --porcelain` printed; lines that are not about refs are passed over.
pub fn parse(printed: &[u8]) -> Vec<RefReport> {
    String::from_utf8_lossy(printed)
        .lines()
        .filter_map(parse_line)
        .collect()
}

/// `<flag>\t<from>:<to>\t<summary>`, the summary perhaps with a reason in parentheses.
fn parse_line(line: &str) -> Option<RefReport> {
    let mut fields = line.splitn(3, '\t');
    let (flag, refs, summary) = (fields.next()?, fields.next()?, fields.next()?);
    let branch = refs.split_once(":refs/heads/")?.1.parse().ok()?;
    let fate = match flag {
        "!" => failed(summary),
        _ => Fate::Done,
    };
    Some(RefReport { branch, fate })
}

fn failed(summary: &str) -> Fate {
    let reason = summary
        .split_once(" (")
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .unwrap_or(summary);
    if summary.starts_with("[remote failure]") {
        return Fate::Unanswered;
    }
    if !summary.starts_with("[remote rejected]") {
        // Git's own doing: the lease, or another ref's.
        return match reason {
            "atomic push failed" => Fate::Along,
            _ => Fate::LeaseLost,
        };
    }
    match REASONS.iter().find(|(words, _)| reason.contains(words)) {
        Some((_, Reason::Whole)) => Fate::WholeRefused(reason.to_owned()),
        Some((_, Reason::Along)) => Fate::Along,
        Some((_, Reason::Contended)) => Fate::Contended,
        Some((_, Reason::NotStored)) => Fate::NotStored(reason.to_owned()),
        None => Fate::Refused(reason.to_owned()),
    }
}

/// What a push that failed comes to, by its reports alone.
pub fn judge(reports: &[RefReport]) -> Verdict {
    let fates = || reports.iter().map(|report| &report.fate);
    if reports.is_empty() {
        return Verdict::Silent;
    }
    let moved: Vec<BranchName> = reports
        .iter()
        .filter(|report| report.fate == Fate::LeaseLost)
        .map(|report| report.branch.clone())
        .collect();
    if !moved.is_empty() {
        return Verdict::Moved(moved);
    }
    if fates().any(|fate| matches!(fate, Fate::WholeRefused(_))) {
        return Verdict::WholeRefused;
    }
    if fates().any(|fate| matches!(fate, Fate::Contended | Fate::Unanswered)) {
        return Verdict::Unclear;
    }
    // The remote had said so of every ref when the connection broke.
    if fates().all(|fate| *fate == Fate::Done) {
        return Verdict::Unclear;
    }
    let refused = refusals(reports);
    if !refused.is_empty() {
        return Verdict::Refused(refused);
    }
    fates()
        .find_map(|fate| match fate {
            Fate::NotStored(reason) => Some(Verdict::NotStored(reason.clone())),
            _ => None,
        })
        .unwrap_or(Verdict::WholeRefused)
}

fn refusals(reports: &[RefReport]) -> Vec<Refusal> {
    reports
        .iter()
        .filter_map(|report| match &report.fate {
            Fate::Refused(reason) => Some(Refusal {
                branch: report.branch.clone(),
                reason: reason.clone(),
            }),
            _ => None,
        })
        .collect()
}

/// What an unclear push comes to, by what the remote's refs are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All are where they should be: the push went through and its answer was lost.
    Done,
    /// These are neither where they were nor where they should be.
    Moved(Vec<BranchName>),
    /// Nothing has changed.
    Unchanged,
}

/// Compares the remote's refs with what was to be pushed.
pub fn compare(updates: &[RefUpdate], now: impl Fn(&BranchName) -> Option<ObjectId>) -> Seen {
    if updates.iter().all(|u| now(&u.branch) == Some(u.to)) {
        return Seen::Done;
    }
    let moved: Vec<BranchName> = updates
        .iter()
        .filter(|u| now(&u.branch).is_none_or(|id| id != u.from && id != u.to))
        .map(|u| u.branch.clone())
        .collect();
    if moved.is_empty() {
        Seen::Unchanged
    } else {
        Seen::Moved(moved)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn branch(name: &str) -> BranchName {
        name.parse().unwrap()
    }

    /// A report for each `(branch, flag, summary)`, as git prints them.
    fn reports(lines: &[(&str, char, &str)]) -> Vec<RefReport> {
        let mut printed = String::from("To /srv/a.git\n");
        for (name, flag, summary) in lines {
            printed.push_str(&format!("{flag}\tabc:refs/heads/{name}\t{summary}\n"));
        }
        printed.push_str("Done\n");
        parse(printed.as_bytes())
    }

    #[test]
    fn tells_culprits_from_those_that_failed_along() {
        let refusal = |name, reason: &str| Refusal {
            branch: branch(name),
            reason: reason.to_owned(),
        };
        for (lines, verdict) in [
            (
                vec![
                    ("a", '!', "[rejected] (stale info)"),
                    ("b", '!', "[rejected] (atomic push failed)"),
                    ("c", '=', "[up to date]"),
                ],
                Verdict::Moved(vec![branch("a")]),
            ),
            (
                vec![
                    ("a", '!', "[remote rejected] (atomic push failure)"),
                    ("b", '!', "[remote rejected] (hook declined)"),
                ],
                Verdict::Refused(vec![refusal("b", "hook declined")]),
            ),
            (
                vec![
                    (
                        "a",
                        '!',
                        "[remote rejected] (protected branch hook declined)",
                    ),
                    ("b", '!', "[remote rejected] (push declined (see rule 7))"),
                ],
                Verdict::Refused(vec![
                    refusal("a", "protected branch hook declined"),
                    refusal("b", "push declined (see rule 7)"),
                ]),
            ),
            (
                vec![("a", '!', "[remote rejected] (pre-receive hook declined)")],
                Verdict::WholeRefused,
            ),
            (
                vec![("a", '!', "[remote rejected] (atomic transaction failed)")],
                Verdict::Unclear,
            ),
            (
                vec![(
                    "a",
                    '!',
                    "[remote failure] (remote failed to report status)",
                )],
                Verdict::Unclear,
            ),
            (
                vec![
                    ("a", '+', "abc...def (forced update)"),
                    ("b", ' ', "abc..def"),
                ],
                Verdict::Unclear,
            ),
            (
                vec![("a", '!', "[remote rejected] (unpacker error)")],
                Verdict::NotStored("unpacker error".to_owned()),
            ),
            (vec![], Verdict::Silent),
        ] {
            assert_eq!(judge(&reports(&lines)), verdict, "{lines:?}");
        }
    }

    #[test]
    fn a_lost_answer_is_told_by_the_remotes_refs() {
        let id = |n| ObjectId::from_bytes([n; 20]);
        let update = |name, from, to| RefUpdate {
            branch: branch(name),
            from: id(from),
            to: id(to),
        };
        let updates = [update("a", 1, 2), update("b", 3, 4)];
        let seen = |a, b| {
            compare(&updates, |name| match name.as_str() {
                "a" => a,
                _ => b,
            })
        };
        assert_eq!(seen(Some(id(2)), Some(id(4))), Seen::Done);
        assert_eq!(seen(Some(id(1)), Some(id(3))), Seen::Unchanged);
        assert_eq!(seen(Some(id(2)), Some(id(3))), Seen::Unchanged);
        assert_eq!(
            seen(Some(id(9)), Some(id(3))),
            Seen::Moved(vec![branch("a")])
        );
        assert_eq!(seen(Some(id(1)), None), Seen::Moved(vec![branch("b")]));
    }

    proptest! {
        #[test]
        fn every_ref_is_told_and_none_that_failed_as_done(
            refs in proptest::collection::btree_map(
                "[a-z]{1,4}(/[a-z]{1,4})?",
                ("[!+= *-]", "(\\[remote rejected\\]|\\[remote failure\\]|\\[rejected\\]|a\\.\\.b)( \\([^\n\t]{0,30}\\))?"),
                0..6,
            ),
        ) {
            let lines: Vec<(&str, char, &str)> = refs
                .iter()
                .map(|(name, (flag, summary))| {
                    (name.as_str(), flag.chars().next().unwrap(), summary.as_str())
                })
                .collect();
            let told = reports(&lines);
            let names: Vec<_> = told.iter().map(|report| report.branch.as_str()).collect();
            prop_assert_eq!(names, refs.keys().map(String::as_str).collect::<Vec<_>>());
            for (report, (_, flag, _)) in told.iter().zip(&lines) {
                prop_assert_eq!(report.fate == Fate::Done, *flag != '!');
            }
            // Whoever failed along alone is nobody's fault to be told.
            match judge(&told) {
                Verdict::Moved(branches) => prop_assert!(!branches.is_empty()),
                Verdict::Refused(refused) => prop_assert!(!refused.is_empty()),
                Verdict::Silent => prop_assert!(told.is_empty()),
                _ => {}
            }
        }

        #[test]
        fn never_panics(
            bytes in any::<Vec<u8>>(),
            lines in proptest::collection::vec("[!+= *-]\t[a-f0-9:]{0,3}:refs/heads/[a-z/]{0,3}\t.{0,30}", 0..5),
        ) {
            judge(&parse(&bytes));
            judge(&parse(lines.join("\n").as_bytes()));
        }
    }
}
