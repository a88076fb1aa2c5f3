//! What people and hosting services do with two branches: merging, and rebasing one onto the other.

use backstack_schemas::ObjectId;
use git2::{Commit, Oid, Sort};

use super::{Remote, id, message_of, subject_of};

impl Remote {
    /// Merges a branch into trunk as one new commit, `squash <branch>`.
    #[track_caller]
    pub fn squash_merge(&self, branch: &str) -> ObjectId {
        let tree = self.merged_tree(&self.trunk, branch);
        let trunk = self.tip(&self.trunk);
        self.advance_trunk(self.write(&[&trunk], &tree, &format!("squash {branch}")))
    }

    /// Moves trunk forward to the branch; panics where that would not be a fast-forward.
    #[track_caller]
    pub fn ff_merge(&self, branch: &str) -> ObjectId {
        let (trunk, tip) = (self.tip(&self.trunk).id(), self.tip(branch).id());
        let forward = self
            .git
            .graph_descendant_of(tip, trunk)
            .expect("two commits");
        assert!(forward, "{branch:?} does not stand on trunk's head");
        self.advance_trunk(tip)
    }

    /// Replays a branch's own commits onto trunk, as a hosting service's "rebase and merge" does;
    /// the branch stays.
    #[track_caller]
    pub fn rebase_merge(&self, branch: &str) -> ObjectId {
        let trunk = self.tip(&self.trunk);
        let replayed = self.replay(self.tip(branch).id(), trunk.id(), trunk);
        self.advance_trunk(replayed)
    }

    /// Replays what a branch has and the revision `base` has not onto the revision `onto`, and sets
    /// the branch to that, as somebody's `git rebase --onto <onto> <base> <branch>` and forced push do.
    #[track_caller]
    pub fn rebase(&self, branch: &str, base: &str, onto: &str) -> ObjectId {
        let (base, onto) = (self.revision(base).id(), self.revision(onto));
        let replayed = self.replay(self.tip(branch).id(), base, onto);
        self.set(branch, replayed, "rebase");
        id(replayed)
    }

    #[track_caller]
    fn replay<'repo>(&'repo self, head: Oid, base: Oid, mut onto: Commit<'repo>) -> Oid {
        let mut walk = self.git.revwalk().expect("a walk");
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)
            .expect("a sorting");
        walk.push(head).expect("a commit");
        walk.hide(base).expect("a commit");
        for own in walk {
            let own = self.git.find_commit(own.expect("an id")).expect("a commit");
            let picked = self
                .git
                .cherrypick_commit(&own, &onto, 0, None)
                .expect("a merge");
            let tree = self.written(picked, &format!("replaying {}", subject_of(&own)));
            let replayed = self.write_as(&own.author(), &[&onto], &tree, message_of(&own));
            onto = self.git.find_commit(replayed).expect("a commit");
        }
        onto.id()
    }

    /// Merges a branch into trunk with a merge commit, `merge <branch>`.
    #[track_caller]
    pub fn merge_commit(&self, branch: &str) -> ObjectId {
        self.merge(&self.trunk, branch)
    }

    /// Merges a branch into another with a merge commit, `merge <from>`.
    #[track_caller]
    pub fn merge(&self, into: &str, from: &str) -> ObjectId {
        let tree = self.merged_tree(into, from);
        let merge = self.write(
            &[&self.tip(into), &self.tip(from)],
            &tree,
            &format!("merge {from}"),
        );
        self.set(into, merge, "merge");
        id(merge)
    }
}
