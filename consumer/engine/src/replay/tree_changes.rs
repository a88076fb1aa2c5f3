//! What differs between two trees, name by name.

use std::cmp::Ordering;

use super::tree::{Item, Slot, Tree, order};

/// One name whose meaning differs between two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    pub name: &'a [u8],
    pub old: Option<Item>,
    pub new: Option<Item>,
}

impl Tree {
    /// The entries that differ between two trees.
    pub fn changes<'a>(&'a self, new: &'a Self) -> Vec<Change<'a>> {
        let mut changes = Vec::new();
        let (mut old_at, mut new_at) = self.skip_common_start(new);
        while old_at < self.slots().len() || new_at < new.slots().len() {
            let old_slot = self.slots().get(old_at).copied();
            let new_slot = new.slots().get(new_at).copied();
            let order = match (old_slot, new_slot) {
                (Some(a), Some(b)) => order((self.name(a), a.mode), (new.name(b), b.mode)),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let old_slot = old_slot.filter(|_| order.is_le());
            let new_slot = new_slot.filter(|_| order.is_ge());
            old_at += usize::from(old_slot.is_some());
            new_at += usize::from(new_slot.is_some());
            let old_item = old_slot.map(|slot| self.item(slot));
            let new_item = new_slot.map(|slot| new.item(slot));
            if old_item != new_item {
                let name = old_slot.map(|slot| self.name(slot));
                let name = name.or_else(|| new_slot.map(|slot| new.name(slot)));
                changes.push(Change {
                    name: name.unwrap_or_default(),
                    old: old_item,
                    new: new_item,
                });
            }
        }
        pair_changes_of_kind(changes)
    }

    /// Number of leading entries that are the same bytes in both.
    fn skip_common_start(&self, new: &Self) -> (usize, usize) {
        let same = common_start(self.raw(), new.raw());
        let whole = |slot: &Slot| slot.end() <= same;
        let count = self
            .slots()
            .partition_point(whole)
            .min(new.slots().partition_point(whole));
        (count, count)
    }
}

/// A file that became a directory stands at two places in git's order: makes one change of the two.
fn pair_changes_of_kind(mut changes: Vec<Change<'_>>) -> Vec<Change<'_>> {
    let gone = |change: &Change| change.new.is_none();
    let came = |change: &Change| change.old.is_none();
    if !changes.iter().any(gone) || !changes.iter().any(came) {
        return changes;
    }
    // Stable, so that the two of one name are neighbours.
    changes.sort_by_key(|change| change.name);
    let mut paired: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes {
        match paired.last_mut() {
            Some(last) if last.name == change.name => {
                last.old = last.old.or(change.old);
                last.new = last.new.or(change.new);
            }
            _ => paired.push(change),
        }
    }
    paired
}

/// Number of leading bytes that are the same.
fn common_start(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 64;
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP));
    let start = STEP * steps.take_while(|(a, b)| a == b).count();
    let rest = a[start..].iter().zip(&b[start..]);
    start + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::tree::tests::{by_libgit2, entries, file, id, tree};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn changes_are_what_a_comparison_name_by_name_finds(old in entries(), new in entries()) {
            crate::mirror::prepare_libgit2();
            let [a, b] = [&old, &new].map(|entries| Tree::parse(by_libgit2(entries).into()).unwrap());
            let names: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
            let want: Vec<_> = names
                .into_iter()
                .map(|name| (name.as_slice(), old.get(name).copied(), new.get(name).copied()))
                .filter(|(_, old, new)| old != new)
                .collect();
            let mut found: Vec<_> = a.changes(&b).iter().map(|c| (c.name, c.old, c.new)).collect();
            found.sort_by_key(|(name, ..)| *name);
            prop_assert_eq!(found, want);
        }
    }

    #[test]
    fn changes_are_only_what_differs() {
        let old = tree(&[("a", file(1)), ("b", file(2)), ("c", file(3))]);
        let new = tree(&[("a", file(1)), ("b", file(9)), ("d", file(4))]);
        let change = |name: &'static str, old, new| Change {
            name: name.as_bytes(),
            old,
            new,
        };
        assert_eq!(
            old.changes(&new),
            [
                change("b", Some(file(2)), Some(file(9))),
                change("c", Some(file(3)), None),
                change("d", None, Some(file(4))),
            ]
        );
        assert!(old.changes(&old).is_empty());
    }

    #[test]
    fn a_file_that_became_a_directory_is_one_change() {
        let old = tree(&[("a", file(1)), ("a.b", file(2))]);
        let new = tree(&[("a.b", file(2)), ("a", Item::tree(id(5)))]);
        let changes = old.changes(&new);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].old, Some(file(1)));
        assert_eq!(changes[0].new, Some(Item::tree(id(5))));
    }
}
