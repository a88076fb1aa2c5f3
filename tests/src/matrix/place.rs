//! Where a worker can be stopped in the middle of a job: the named steps of an action.

use std::fmt;

use crate::git_stops::When;
use crate::wire::{Fault, NAMELESS_STEP};

/// A place in a run of an action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A message to NATS is on its way and has no effect yet.
    Asking(String),
    /// It has taken effect, and the worker does not know.
    Answered(String),
    /// A git command has not begun, or has ended and the worker does not know.
    Git(String, When),
    /// A push has come to the remote, where no branch has moved yet.
    AtRemote,
    /// A message to NATS, or the answer to it, is lost once.
    Lost(String, Fault),
    /// A push has moved the branches, and the connection breaks before the remote has said so.
    ReportOfPush,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asking(step) => write!(f, "{step}"),
            Self::Answered(step) => write!(f, "{step}, done"),
            Self::Git(command, When::Before) => write!(f, "git {command}"),
            Self::Git(command, When::After) => write!(f, "git {command}, done"),
            Self::AtRemote => write!(f, "git push, at the remote"),
            Self::Lost(step, fault) => write!(f, "{step}, {fault:?}"),
            Self::ReportOfPush => write!(f, "git push, report lost"),
        }
    }
}

/// The places of a run in their order, from its steps on NATS and its git commands, each as they were
/// seen in a run that nothing disturbed.
///
/// What only reads is a place once: whether the answer had been on its way makes no difference to
/// anybody.
pub(super) fn places(steps: &[String], commands: &[String]) -> Vec<Place> {
    let mut places = Vec::new();
    for step in steps {
        places.push(Place::Asking(step.clone()));
        if has_effect(step) {
            places.push(Place::Answered(step.clone()));
        }
        // Git fetches while the branch rows are read, and pushes behind the fence.
        let pushes = step == "fence";
        if !pushes && step != NAMELESS_STEP {
            continue;
        }
        for command in commands.iter().filter(|it| (*it == "push") == pushes) {
            places.push(Place::Git(command.clone(), When::Before));
            if pushes {
                places.push(Place::AtRemote);
            }
            // A conversation ends when its job does.
            if command != "merge-tree" {
                places.push(Place::Git(command.clone(), When::After));
            }
        }
    }
    places
}

/// Everything that can be lost in a run with these places: each message, the answer to each, and the
/// remote's report of the push.
pub(super) fn losses(places: &[Place]) -> Vec<Place> {
    let mut losses = Vec::new();
    for place in places {
        match place {
            Place::Asking(step) => {
                losses.push(Place::Lost(step.clone(), Fault::LoseRequest));
                losses.push(Place::Lost(step.clone(), Fault::LoseReply));
            }
            Place::AtRemote => losses.push(Place::ReportOfPush),
            _ => {}
        }
    }
    losses
}

/// Whether the step changes something.
fn has_effect(step: &str) -> bool {
    let reads = ["read ", "ask ", "list ", "look "];
    !reads.iter().any(|word| step.starts_with(word))
}
