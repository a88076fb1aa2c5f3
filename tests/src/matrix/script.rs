//! The actions of the matrix: the same small stack each time, what people did to it since, and what is
//! asked for.

use backstack_schemas::TaskId;
use serde_json::{Value, json};

use crate::remote::Remote;

/// The stacks that every script begins with; `c` is not tracked.
const STACKS: [&str; 2] = ["main <- a: a1 a2 <- b: b1", "main <- c: c1"];

/// The branches that are tracked.
pub(super) const TRACKED: [&str; 2] = ["a", "b"];

/// The branch that a task is for.
pub(super) const TASK_BRANCH: &str = "c";

/// One action, and what has happened before it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// The action's name.
    pub action: &'static str,
    /// Whether the action is for a task.
    pub(super) has_task: bool,
    fields: fn() -> Value,
    people: fn(&Remote),
}

/// Every action, each so that it has something to do.
pub const SCRIPTS: [Script; 7] = [
    Script {
        action: "sync_repo",
        has_task: false,
        fields: || json!({"restack": true}),
        people: |remote| {
            remote.squash_merge("a");
            move_trunk(remote);
        },
    },
    script("restack_repo", || json!({})),
    script("restack_subtree", || json!({"branch": "a"})),
    script("rebase_branch", || json!({"branch": "a"})),
    script(
        "reparent_branch",
        || json!({"branch": "b", "parent": "main"}),
    ),
    Script {
        has_task: true,
        ..script(
            "register_existing_branch",
            || json!({"branch": TASK_BRANCH, "parent": "main"}),
        )
    },
    script("unregister_branch", || json!({"branch": "a"})),
];

const fn script(action: &'static str, fields: fn() -> Value) -> Script {
    Script {
        action,
        has_task: false,
        fields,
        people: move_trunk,
    }
}

fn move_trunk(remote: &Remote) {
    remote.commit("main", &[("m1", "m1\n")], "m1");
}

impl Script {
    /// Builds the stacks in a new remote.
    pub(super) fn build(&self, remote: &Remote) {
        for stack in STACKS {
            remote.stack(stack);
        }
    }

    /// Does what people did since the branches were tracked.
    pub(super) fn go_on(&self, remote: &Remote) {
        (self.people)(remote);
    }

    /// The body of the action's message.
    pub(super) fn body(&self, task: Option<TaskId>) -> String {
        let mut fields = (self.fields)();
        if let Some(task) = task {
            fields["task_id"] = json!(task);
        }
        fields.to_string()
    }
}
