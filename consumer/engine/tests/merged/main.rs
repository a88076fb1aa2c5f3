//! Which branches are merged, and what rows say of a branch: on real repositories that the git
//! command made, with git's own merges as the judge of exactness.

mod builder;
mod facts;
mod generated;
mod merge_tree;
mod stories;
mod world;
