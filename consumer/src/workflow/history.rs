//! The engine's view of a mirror's history, with git's own merges where it asks for them.

use std::cell::RefCell;

use backstack_engine::history::{GitHistory, History};
use backstack_engine::mirror::Mirror;
use backstack_engine::replay::Merger;
use backstack_engine::{Control, EngineError};
use backstack_schemas::ObjectId;

/// Calls `ask` with the history in `mirror`. A merger is opened only once a merge is asked for.
///
/// # Errors
/// The mirror's objects cannot be read.
pub fn with<T>(
    mirror: &Mirror,
    control: &Control,
    ask: impl FnOnce(&dyn History) -> T,
) -> Result<T, EngineError> {
    let opened: RefCell<Option<Merger>> = RefCell::new(None);
    let merge = |ours: ObjectId, theirs: ObjectId| -> Result<Option<ObjectId>, EngineError> {
        let mut opened = opened.borrow_mut();
        let merger = match opened.as_mut() {
            Some(merger) => merger,
            None => opened.insert(Merger::open(mirror.path(), mirror.git(), control)?),
        };
        merger.automatic_merge(&[ours, theirs])
    };
    Ok(ask(&GitHistory::new(mirror.repo(), control, &merge)?))
}
