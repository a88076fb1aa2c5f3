//! Whether a file's attributes leave its content merge to git's built-in line merge.
//!
//! The question is only ever answered "yes" where it is certain: a line of an attributes file
//! counts as soon as it could match. A "no" costs a millisecond, since git then merges.
//!
//! # Which attributes files
//!
//! A rebase reads `.gitattributes` from its work tree, which at each commit holds the tree that the
//! commit goes onto; so do we, and so does the merging git through `--attr-source`. The
//! repository's `info/attributes` counts too, system and user files do not.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;

use backstack_schemas::ObjectId;

use super::objects::Objects;
use super::tree::Tree;
use crate::error::EngineError;

/// Name of the attributes file of a directory.
pub(super) const FILE_NAME: &[u8] = b".gitattributes";

/// The lines of one attributes file that may say how a file is merged.
#[derive(Debug, Default)]
pub(super) struct AttributesFile {
    /// For each line its pattern and the attributes it names.
    lines: Vec<(Pattern, Vec<Vec<u8>>)>,
    /// Macros it defines.
    macros: HashSet<Vec<u8>>,
}

/// Which paths a line is about.
#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    /// Files of this name.
    Name(Vec<u8>),
    /// Files whose name ends so.
    Suffix(Vec<u8>),
    /// Possibly any.
    Any,
}

impl Pattern {
    fn parse(text: &[u8]) -> Self {
        let special = |byte: &u8| b"*?[]\\/\"!".contains(byte);
        match text {
            [b'*', suffix @ ..] if !suffix.iter().any(special) => Self::Suffix(suffix.to_vec()),
            name if !name.iter().any(special) => Self::Name(name.to_vec()),
            _ => Self::Any,
        }
    }

    fn may_match(&self, name: &[u8]) -> bool {
        match self {
            Self::Name(pattern) => pattern == name,
            Self::Suffix(suffix) => name.ends_with(suffix),
            Self::Any => true,
        }
    }
}

impl AttributesFile {
    fn parse(content: &[u8]) -> Self {
        let mut file = Self::default();
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        for line in content.split(|byte| *byte == b'\n') {
            let mut words = line
                .split(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
                .filter(|word| !word.is_empty());
            let Some(first) = words.next().filter(|word| word[0] != b'#') else {
                continue;
            };
            let attributes = words.map(|word| attribute_name(word).to_vec()).collect();
            match first.strip_prefix(b"[attr]") {
                // `[attr] name` is written with a space, too.
                Some(b"") => file.macros.extend(attributes),
                Some(name) => drop(file.macros.insert(name.to_vec())),
                // A quoted pattern may hold spaces; its words are then taken for attributes.
                None => file.lines.push((Pattern::parse(first), attributes)),
            }
        }
        file
    }
}

/// `merge` of `merge=union`, `-merge` and `!merge`.
fn attribute_name(word: &[u8]) -> &[u8] {
    let word = match word {
        [b'-' | b'!', rest @ ..] => rest,
        _ => word,
    };
    word.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// What is known of attributes and merge configuration; parsed files are kept.
pub(super) struct ContentRules {
    /// Whether no file may be merged here: a default driver is configured, or names fold case.
    never: bool,
    info: Arc<AttributesFile>,
    parsed: HashMap<ObjectId, Arc<AttributesFile>>,
}

impl ContentRules {
    /// The rules of the repository.
    pub fn of(objects: &Objects) -> Self {
        let repo = objects.repository();
        // The merging git reads nothing but the repository's own file.
        let config = repo
            .config()
            .and_then(|config| config.open_level(git2::ConfigLevel::Local));
        let folds_case =
            |config: &git2::Config| config.get_bool("core.ignorecase").unwrap_or(false);
        let never = match config {
            Ok(config) => config.get_entry("merge.default").is_ok() || folds_case(&config),
            Err(_) => true,
        };
        let info = fs::read(repo.commondir().join("info/attributes")).unwrap_or_default();
        Self {
            never,
            info: Arc::new(AttributesFile::parse(&info)),
            parsed: HashMap::new(),
        }
    }

    /// Goes into a directory: `above` are the files of those around it, outermost first.
    pub fn descend(
        &mut self,
        above: &mut Vec<Arc<AttributesFile>>,
        directory: &Tree,
        objects: &mut Objects,
    ) -> Result<(), EngineError> {
        let file = match directory.get(FILE_NAME) {
            Ok(Some(item)) if item.is_file() => self.file(item.id, objects)?,
            _ => Arc::default(),
        };
        above.push(file);
        Ok(())
    }

    /// Whether a file of this name, in the directory that `files` lead to, is merged line by line
    /// for certain.
    pub fn is_plain(&self, files: &[Arc<AttributesFile>], name: &[u8]) -> bool {
        let all = || files.iter().chain([&self.info]);
        let steers = |attribute: &Vec<u8>| {
            matches!(attribute.as_slice(), b"merge" | b"binary")
                || all().any(|file| file.macros.contains(attribute))
        };
        !self.never
            && !all()
                .flat_map(|file| &file.lines)
                .any(|(pattern, words)| pattern.may_match(name) && words.iter().any(steers))
    }

    fn file(
        &mut self,
        id: ObjectId,
        objects: &mut Objects,
    ) -> Result<Arc<AttributesFile>, EngineError> {
        if let Some(file) = self.parsed.get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(AttributesFile::parse(&objects.blob(id)?));
        self.parsed.insert(id, Arc::clone(&file));
        Ok(file)
    }
}

/// Whether two trees have the same attributes files; "no" where it cannot be told.
pub(super) fn same_attributes(
    objects: &mut Objects,
    a: ObjectId,
    b: ObjectId,
) -> Result<bool, EngineError> {
    let mut todo = vec![(Some(a), Some(b))];
    while let Some((a, b)) = todo.pop() {
        if a == b {
            continue;
        }
        let mut read = |id: Option<ObjectId>| match id {
            Some(id) => objects.tree(id),
            None => Ok(Ok(Arc::default())),
        };
        let (Ok(a), Ok(b)) = (read(a)?, read(b)?) else {
            return Ok(false);
        };
        for change in a.changes(&b) {
            if change.name == FILE_NAME {
                return Ok(false);
            }
            let tree = |item: Option<super::tree::Item>| item.filter(|i| i.is_tree()).map(|i| i.id);
            todo.push((tree(change.old), tree(change.new)));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What git itself says of the `merge` attribute of files in one directory with this attributes
    /// file.
    fn merge_attributes(content: &[u8], names: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(dir.path()).unwrap();
        let mut tree = repo.treebuilder(None).unwrap();
        let blob = repo.blob(content).unwrap();
        tree.insert(FILE_NAME, blob, 0o100_644).unwrap();
        let tree = tree.write().unwrap().to_string();
        let mut git = Command::new("git")
            .arg("--git-dir")
            .arg(dir.path())
            .args(["check-attr", "--source", &tree, "-z", "--stdin", "merge"])
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let paths = names.join("\0");
        git.stdin
            .take()
            .unwrap()
            .write_all(paths.as_bytes())
            .unwrap();
        let output = git.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let fields: Vec<&str> = printed.split_terminator('\0').collect();
        fields
            .chunks(3)
            .map(|answer| answer[2].to_owned())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        /// The certain answer is never wrong; how often it is given, the tests below say.
        #[test]
        fn a_file_is_plain_only_where_git_knows_no_merge_attribute(
            bom in "(\u{feff})?",
            lines in vec(
                (
                    "[ \t]?(a|b|\\*|\\*\\.txt|a\\*|a\\.txt|\"a\"|\"a\\.txt\"|/a|\\*\\*/a|\\[ab\\]|\\\\a|!a|#a|\\[attr\\]mine|\\[attr\\]a|\\?)",
                    vec("(merge|-merge|!merge|merge=union|merge=x|binary|-binary|!binary|mine|-mine|a|text|-diff|eol=lf)", 0..3),
                    "[ \t]",
                    "[ \t]?\r?",
                ),
                0..6,
            ),
        ) {
            let text = lines.into_iter().fold(bom, |text, (pattern, attributes, space, end)| {
                text + &pattern + &space + &attributes.join(&space) + &end + "\n"
            });
            let names = ["a", "b", "a.txt", "b.txt", "ab"];
            let told = merge_attributes(text.as_bytes(), &names);
            for (name, told) in names.iter().zip(told) {
                prop_assert!(told == "unspecified" || !is_plain(&text, name), "{name}: {told} by {text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in any::<Vec<u8>>(), text in "[ \\[\\]atr*.\"=!\n-]{0,60}", name in any::<Vec<u8>>()) {
            for content in [bytes.as_slice(), text.as_bytes()] {
                let file = AttributesFile::parse(content);
                for (pattern, _) in &file.lines {
                    pattern.may_match(&name);
                }
            }
        }
    }

    fn is_plain(content: &str, name: &str) -> bool {
        let rules = ContentRules {
            never: false,
            info: Arc::default(),
            parsed: HashMap::new(),
        };
        let file = Arc::new(AttributesFile::parse(content.as_bytes()));
        rules.is_plain(&[file], name.as_bytes())
    }

    #[test]
    fn attributes_that_steer_a_merge_are_seen() {
        for line in [
            "* merge=union",
            "*.txt -merge",
            "a.txt !merge",
            "*.txt binary",
            "a* merge",
            "dir/a.txt merge=ours",
            "\"a.txt\" merge=union",
            "  *.txt\ttext  merge=x\r",
            "\u{feff}*.txt merge=x",
            "[attr]mine merge=union\n*.txt mine",
            "[attr] mine merge=union\n*.txt -mine",
        ] {
            assert!(!is_plain(line, "a.txt"), "{line:?}");
        }
    }

    #[test]
    fn other_lines_do_not_matter() {
        for line in [
            "",
            "# *.txt merge=union",
            "*.txt text eol=lf -diff",
            "*.png binary",
            "b.txt merge=union",
            "*.txt conflict-marker-size=9",
        ] {
            assert!(is_plain(line, "a.txt"), "{line:?}");
        }
    }

    #[test]
    fn macros_of_outer_files_count_in_inner_ones() {
        let rules = ContentRules {
            never: false,
            info: Arc::new(AttributesFile::parse(b"[attr]mine merge=union")),
            parsed: HashMap::new(),
        };
        let inner = Arc::new(AttributesFile::parse(b"*.txt mine"));
        assert!(!rules.is_plain(&[Arc::default(), inner], b"a.txt"));
    }
}
