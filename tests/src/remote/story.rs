//! The language of [`Remote::stack`](super::Remote::stack), read; nothing is done here.

/// One branch of a story with its new commits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) branch: String,
    pub(super) commits: Vec<NewCommit>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct NewCommit {
    pub(super) subject: String,
    pub(super) changes: Vec<Change>,
}

/// What a commit does to one path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Write { path: String, content: String },
    Remove { path: String },
}

pub(super) fn parse(story: &str) -> Result<Vec<Segment>, String> {
    story.split("<-").map(segment).collect()
}

fn segment(text: &str) -> Result<Segment, String> {
    let (branch, commits) = text.split_once(':').unwrap_or((text, ""));
    let branch = branch.trim();
    if branch.is_empty() || branch.contains(char::is_whitespace) {
        return Err(format!(
            "{branch:?} is no branch; commits come after a colon"
        ));
    }
    Ok(Segment {
        branch: branch.to_owned(),
        commits: commits
            .split_whitespace()
            .map(commit)
            .collect::<Result<_, _>>()?,
    })
}

fn commit(text: &str) -> Result<NewCommit, String> {
    let Some((subject, braced)) = text.split_once('{') else {
        return Ok(NewCommit {
            subject: text.to_owned(),
            changes: own_file(text),
        });
    };
    let changes = braced
        .strip_suffix('}')
        .ok_or_else(|| format!("{text:?}: no closing brace; write no spaces inside"))?;
    Ok(NewCommit {
        subject: subject.to_owned(),
        changes: changes.split(',').map(change).collect::<Result<_, _>>()?,
    })
}

fn change(text: &str) -> Result<Change, String> {
    if let Some(path) = text.strip_prefix('-') {
        return Ok(Change::Remove {
            path: path.to_owned(),
        });
    }
    let (path, text) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is neither path=text nor -path"))?;
    Ok(Change::Write {
        path: path.to_owned(),
        content: format!("{}\n", text.replace('|', "\n")),
    })
}

/// What a commit changes that was not told to: a file of its own.
pub(super) fn own_file(subject: &str) -> Vec<Change> {
    vec![Change::Write {
        path: subject.to_owned(),
        content: format!("{subject}\n"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_branches_with_commits() {
        let segments = parse("main <- a: a1 a2 <- fix/b: b1").unwrap();
        let read: Vec<_> = segments
            .iter()
            .map(|s| (s.branch.as_str(), s.commits.len()))
            .collect();
        assert_eq!(read, [("main", 0), ("a", 2), ("fix/b", 1)]);
        assert_eq!(segments[1].commits[1].subject, "a2");
        assert_eq!(segments[1].commits[1].changes, own_file("a2"));
    }

    #[test]
    fn a_commit_may_name_its_changes() {
        let read = commit("a1{f=one|two,-gone,e=}").unwrap();
        let write = |path: &str, content: &str| Change::Write {
            path: path.to_owned(),
            content: content.to_owned(),
        };
        let gone = Change::Remove {
            path: "gone".to_owned(),
        };
        assert_eq!(
            read.changes,
            [write("f", "one\ntwo\n"), gone, write("e", "\n")]
        );
    }

    #[test]
    fn what_is_no_story_says_where() {
        for (wrong, word) in [
            ("main <- ", "\"\""),
            ("a b", "colon"),
            ("a: a1{f=1", "brace"),
            ("a: a1{f}", "-path"),
        ] {
            let problem = parse(wrong).unwrap_err();
            assert!(problem.contains(word), "{wrong:?}: {problem}");
        }
    }
}
