//! Tree objects as raw bytes: parsed without copying names, edited without rebuilding.
//!
//! Guarantees: an entry that no edit names keeps its bytes. Trees that git would not write itself
//! (modes it would normalise, entries out of order) are refused as [`Unusual`], so that the caller
//! leaves them to git. Never reads or writes an object.

use std::cmp::Ordering;
use std::sync::Arc;

use backstack_schemas::ObjectId;

/// Mode of a directory.
pub(super) const TREE: u32 = 0o040_000;
/// Mode of a submodule's commit.
pub(super) const GITLINK: u32 = 0o160_000;
/// Mode of a symbolic link.
pub(super) const SYMLINK: u32 = 0o120_000;
/// Mode of a file.
pub(super) const FILE: u32 = 0o100_644;
/// Mode of a file that may be executed.
pub(super) const EXECUTABLE: u32 = 0o100_755;

/// A tree that is not as git writes trees; only git itself knows what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusual;

/// What a name stands for in a tree: mode and object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub mode: u32,
    pub id: ObjectId,
}

impl Item {
    /// A directory.
    pub fn tree(id: ObjectId) -> Self {
        Self { mode: TREE, id }
    }

    /// Whether it is a directory.
    pub fn is_tree(self) -> bool {
        self.mode == TREE
    }

    /// Whether it is a regular file, executable or not.
    pub fn is_file(self) -> bool {
        matches!(self.mode, FILE | EXECUTABLE)
    }

    /// Whether both are directories, both regular files, both links or both submodules.
    pub fn same_kind(self, other: Self) -> bool {
        self.mode == other.mode || self.is_file() && other.is_file()
    }
}

/// A name and what it stands for from now on; `None` removes it.
pub(super) type Edit<'a> = (&'a [u8], Option<Item>);

/// A parsed tree object.
#[derive(Debug, Default)]
pub(super) struct Tree {
    raw: Arc<[u8]>,
    slots: Vec<Slot>,
}

/// Where one entry lies in the raw bytes: `<mode> <name>\0<id>`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    start: u32,
    name: u32,
    nul: u32,
    pub mode: u32,
}

const ID: usize = 20;

impl Slot {
    /// Where it ends.
    pub fn end(self) -> usize {
        self.nul as usize + 1 + ID
    }
}

impl Tree {
    /// Parses a tree object's content.
    pub fn parse(raw: Arc<[u8]>) -> Result<Self, Unusual> {
        let mut slots = Vec::with_capacity(raw.len() / 40);
        let mut at = 0;
        while at < raw.len() {
            let slot = parse_slot(&raw, at)?;
            at = slot.end();
            slots.push(slot);
        }
        let tree = Self { raw, slots };
        tree.is_sorted().then_some(tree).ok_or(Unusual)
    }

    /// The object's content.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Its entries in git's order: name and what it stands for.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], Item)> {
        self.slots
            .iter()
            .map(|slot| (self.name(*slot), self.item(*slot)))
    }

    /// What `name` stands for. Two entries of one name are [`Unusual`].
    pub fn get(&self, name: &[u8]) -> Result<Option<Item>, Unusual> {
        Ok(self.find(name)?.map(|at| self.item(self.slots[at])))
    }

    /// The content of this tree with `edits` made; a name may be given once.
    pub fn edited(&self, edits: &[Edit]) -> Result<Vec<u8>, Unusual> {
        let mut cuts = Vec::with_capacity(edits.len() + 1);
        for (name, item) in edits {
            self.cut(name, *item, &mut cuts)?;
        }
        // At one place insertions come before what is replaced there, in git's order.
        cuts.sort_by(|a, b| (a.from, a.to).cmp(&(b.from, b.to)).then_with(|| a.order(b)));
        let mut raw = Vec::with_capacity(self.raw.len() + 64 * cuts.len());
        let mut done = 0;
        for cut in cuts {
            raw.extend_from_slice(&self.raw[done..cut.from]);
            if let Some((name, item)) = cut.put {
                write_entry(&mut raw, name, item);
            }
            done = cut.to;
        }
        raw.extend_from_slice(&self.raw[done..]);
        Ok(raw)
    }

    /// Where the raw bytes change when `name` becomes `item`.
    fn cut<'a>(
        &self,
        name: &'a [u8],
        item: Option<Item>,
        cuts: &mut Vec<Cut<'a>>,
    ) -> Result<(), Unusual> {
        let old = self.find(name)?.map(|at| self.slots[at]);
        let put = item.map(|item| (name, item));
        let stays = match (old, item) {
            (Some(slot), Some(item)) => (slot.mode == TREE) == item.is_tree(),
            _ => false,
        };
        if let Some(slot) = old {
            cuts.push(Cut {
                from: slot.start as usize,
                to: slot.end(),
                put: put.filter(|_| stays),
            });
        }
        if let Some(item) = item.filter(|_| !stays) {
            let at = self.position(name, item.mode);
            let from = self
                .slots
                .get(at)
                .map_or(self.raw.len(), |slot| slot.start as usize);
            cuts.push(Cut {
                from,
                to: from,
                put,
            });
        }
        Ok(())
    }

    /// All entries, by where they lie.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// An entry's name.
    pub fn name(&self, slot: Slot) -> &[u8] {
        &self.raw[slot.name as usize..slot.nul as usize]
    }

    /// What an entry stands for.
    pub fn item(&self, slot: Slot) -> Item {
        let at = slot.nul as usize + 1;
        let mut id = [0; ID];
        id.copy_from_slice(&self.raw[at..at + ID]);
        Item {
            mode: slot.mode,
            id: ObjectId::from_bytes(id),
        }
    }

    fn find(&self, name: &[u8]) -> Result<Option<usize>, Unusual> {
        let at = |mode| {
            let at = self.position(name, mode);
            let slot = self.slots.get(at)?;
            ((slot.mode == TREE) == (mode == TREE) && self.name(*slot) == name).then_some(at)
        };
        match (at(FILE), at(TREE)) {
            (Some(_), Some(_)) => Err(Unusual),
            (file, tree) => Ok(file.or(tree)),
        }
    }

    /// Where an entry stands or would stand.
    fn position(&self, name: &[u8], mode: u32) -> usize {
        self.slots
            .partition_point(|slot| order((self.name(*slot), slot.mode), (name, mode)).is_lt())
    }

    fn is_sorted(&self) -> bool {
        self.slots
            .is_sorted_by(|a, b| order((self.name(*a), a.mode), (self.name(*b), b.mode)).is_lt())
    }
}

/// One place where an edited tree's bytes differ.
struct Cut<'a> {
    from: usize,
    to: usize,
    put: Option<(&'a [u8], Item)>,
}

impl Cut<'_> {
    fn order(&self, other: &Self) -> Ordering {
        match (self.put, other.put) {
            (Some((a, x)), Some((b, y))) => order((a, x.mode), (b, y.mode)),
            _ => Ordering::Equal,
        }
    }
}

fn parse_slot(raw: &[u8], start: usize) -> Result<Slot, Unusual> {
    let rest = &raw[start..];
    let space = rest
        .iter()
        .take(7)
        .position(|b| *b == b' ')
        .ok_or(Unusual)?;
    let mode = match &rest[..space] {
        b"100644" => FILE,
        b"40000" => TREE,
        b"100755" => EXECUTABLE,
        b"120000" => SYMLINK,
        b"160000" => GITLINK,
        _ => return Err(Unusual),
    };
    let name = space + 1;
    let length = memchr::memchr(0, &rest[name..]).ok_or(Unusual)?;
    let end = start + name + length + 1 + ID;
    if length == 0 || end > raw.len() || u32::try_from(end).is_err() {
        return Err(Unusual);
    }
    Ok(Slot {
        start: start as u32,
        name: (start + name) as u32,
        nul: (start + name + length) as u32,
        mode,
    })
}

/// Appends an entry as git writes it.
fn write_entry(raw: &mut Vec<u8>, name: &[u8], item: Item) {
    raw.extend_from_slice(format!("{:o} ", item.mode).as_bytes());
    raw.extend_from_slice(name);
    raw.push(0);
    raw.extend_from_slice(item.id.as_bytes());
}

/// Git's order of tree entries: by bytes, a directory's name as if it ended in a slash.
pub(super) fn order((a, a_mode): (&[u8], u32), (b, b_mode): (&[u8], u32)) -> Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then_with(|| {
        let next = |name: &[u8], mode| match name.get(common) {
            Some(byte) => *byte,
            None if mode == TREE => b'/',
            None => 0,
        };
        next(a, a_mode).cmp(&next(b, b_mode))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    pub fn id(n: u8) -> ObjectId {
        ObjectId::from_bytes([n; ID])
    }

    pub fn file(n: u8) -> Item {
        Item {
            mode: FILE,
            id: id(n),
        }
    }

    pub fn tree(entries: &[(&str, Item)]) -> Tree {
        let mut raw = Vec::new();
        for (name, item) in entries {
            write_entry(&mut raw, name.as_bytes(), *item);
        }
        Tree::parse(raw.into()).expect("entries in git's order")
    }

    #[test]
    fn a_directory_sorts_as_if_it_ended_in_a_slash() {
        let sorted = tree(&[("a", file(1)), ("a.b", file(2)), ("a0", file(3))]);
        let edits: [Edit; 1] = [(b"a", Some(Item::tree(id(9))))];
        let raw = sorted.edited(&edits).unwrap();
        let names: Vec<_> = Tree::parse(raw.into())
            .unwrap()
            .entries()
            .map(|e| e.0.to_vec())
            .collect();
        assert_eq!(names, [b"a.b".to_vec(), b"a".to_vec(), b"a0".to_vec()]);
    }

    #[test]
    fn edits_insert_replace_and_remove() {
        let old = tree(&[("b", file(1)), ("d", file(2)), ("f", file(3))]);
        let edits: [Edit; 5] = [
            (b"a", Some(file(7))),
            (b"c", Some(file(8))),
            (b"d", Some(file(9))),
            (b"cc", Some(Item::tree(id(6)))),
            (b"f", None),
        ];
        let new = Tree::parse(old.edited(&edits).unwrap().into()).unwrap();
        let want = tree(&[
            ("a", file(7)),
            ("b", file(1)),
            ("c", file(8)),
            ("cc", Item::tree(id(6))),
            ("d", file(9)),
        ]);
        assert_eq!(new.raw(), want.raw());
    }

    #[test]
    fn trees_git_would_not_write_are_refused() {
        let entry = |mode: &str, name: &str| {
            let mut raw = format!("{mode} {name}\0").into_bytes();
            raw.extend_from_slice(&[1; ID]);
            raw
        };
        for bad in [
            entry("100664", "a"),
            entry("040000", "a"),
            entry("100644", ""),
            [entry("100644", "b"), entry("100644", "a")].concat(),
            [entry("100644", "a"), entry("100644", "a")].concat(),
            entry("100644", "a")[..20].to_vec(),
        ] {
            assert_eq!(Tree::parse(bad.into()).err(), Some(Unusual));
        }
        let twice = [
            entry("100644", "a"),
            entry("100644", "a.b"),
            entry("40000", "a"),
        ]
        .concat();
        assert_eq!(Tree::parse(twice.into()).unwrap().get(b"a"), Err(Unusual));
    }

    /// Entries by name; names that sort in ways of their own beside directories.
    pub fn entries() -> impl Strategy<Value = BTreeMap<Vec<u8>, Item>> {
        let name = prop_oneof!["[ab]{1,2}", "a[-.0]b?", "[!-~&&[^/]]{1,3}"]
            .prop_filter("git takes no such name", |name| name != "." && name != "..")
            .prop_map(String::into_bytes);
        let mode = prop_oneof![
            Just(FILE),
            Just(TREE),
            Just(EXECUTABLE),
            Just(SYMLINK),
            Just(GITLINK)
        ];
        btree_map(
            name,
            (mode, 1u8..5).prop_map(|(mode, n)| Item { mode, id: id(n) }),
            0..9,
        )
    }

    /// The tree as libgit2 writes it, which knows git's order.
    pub fn by_libgit2(entries: &BTreeMap<Vec<u8>, Item>) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(dir.path()).unwrap();
        let mut builder = repo.treebuilder(None).unwrap();
        for (name, item) in entries {
            let oid = git2::Oid::from_bytes(item.id.as_bytes()).unwrap();
            let mode = i32::try_from(item.mode).unwrap();
            builder.insert(name.as_slice(), oid, mode).unwrap();
        }
        let written = builder.write().unwrap();
        repo.odb().unwrap().read(written).unwrap().data().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn edits_give_the_tree_that_libgit2_builds_of_the_entries_then(
            old in entries(), new in entries(), kept in vec(any::<bool>(), 9),
        ) {
            crate::mirror::prepare_libgit2();
            let mut wanted = old.clone();
            let mut edits: Vec<Edit> = Vec::new();
            for (name, item) in &new {
                wanted.insert(name.clone(), *item);
                edits.push((name, Some(*item)));
            }
            for ((name, _), kept) in old.iter().zip(kept) {
                if !kept && !new.contains_key(name) {
                    wanted.remove(name);
                    edits.push((name, None));
                }
            }
            let tree = Tree::parse(by_libgit2(&old).into()).unwrap();
            let read: BTreeMap<Vec<u8>, Item> =
                tree.entries().map(|(name, item)| (name.to_vec(), item)).collect();
            prop_assert_eq!(&read, &old);
            for name in old.keys().chain(new.keys()) {
                prop_assert_eq!(tree.get(name), Ok(old.get(name).copied()));
            }
            prop_assert_eq!(tree.edited(&edits).unwrap(), by_libgit2(&wanted));
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_kept_byte_for_byte_and_nothing_panics(
            raw in vec(any::<u8>(), 0..80), parts in vec(("(100644|40000|100755|1|) ?", "[a-c]{0,2}", vec(any::<u8>(), 20)), 0..4),
        ) {
            let mut likely = Vec::new();
            for (mode, name, id) in parts {
                likely.extend_from_slice(mode.as_bytes());
                likely.extend_from_slice(name.as_bytes());
                likely.push(0);
                likely.extend_from_slice(&id);
            }
            for raw in [raw, likely] {
                if let Ok(tree) = Tree::parse(raw.as_slice().into()) {
                    prop_assert_eq!(tree.edited(&[]).unwrap(), raw.clone());
                    let mut again = Vec::new();
                    for (name, item) in tree.entries() {
                        write_entry(&mut again, name, item);
                    }
                    prop_assert_eq!(again, raw);
                }
            }
        }
    }
}
