//! The objects that the repository holds.
//!
//! libgit2 maps whole packs, whose pages cost more than the few bytes that are wanted of each, and
//! takes several locks for each piece it reads. So what one object costs grows with the size of the
//! repository, and threads wait for one another. Here each thread reads just the bytes it needs of
//! files that all have open, and libgit2 is asked only for what is not plainly in a pack: it knows loose objects, alternates and
//! packs that came meanwhile, and has the last word where something is wrong.
//!
//! ```text
//!  id ──► index ──► offset ──► entry ──► content, or a delta and its base ──► delta ──► object
//! ```
//!
//! | question | module |
//! |---|---|
//! | which pack has an object, and what is it made from? | [`packs`] |
//! | where in a pack is it? | [`index`] |
//! | what is there? | [`entry`] |
//! | what does a delta make of its base? | [`delta`] |

mod delta;
mod entry;
mod index;
mod packs;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};

use backstack_schemas::ObjectId;
use git2::{ObjectType, Repository};

use crate::error::EngineError;
pub(super) use packs::Object;
use packs::{PackReader, Packs};

/// Objects and deltas of this many bytes are left to libgit2: so what a damaged pack claims takes no
/// more memory than that.
const LARGEST: usize = 16 * 1024 * 1024;

/// The open packs of a repository, for several [`Stored`] to share; clones are the same.
#[derive(Clone, Default)]
pub(super) struct SharedPacks(Arc<OnceLock<Arc<Packs>>>);

/// Reads what one repository holds; of one thread.
pub(super) struct Stored {
    repo: Repository,
    dir: PathBuf,
    packs: PackReader,
}

impl Stored {
    /// Opens the repository at exactly this path.
    pub fn open(git_dir: &Path, packs: &SharedPacks) -> Result<Self, EngineError> {
        let repo = open(git_dir)?;
        let dir = objects_dir(&repo);
        let packs = packs.0.get_or_init(|| Arc::new(Packs::open(&dir)));
        Ok(Self {
            packs: PackReader::new(Arc::clone(packs)),
            repo,
            dir,
        })
    }

    /// The repository, for its configuration and its paths.
    pub fn repository(&self) -> &Repository {
        &self.repo
    }

    /// Its object directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An object's content.
    pub fn read(&mut self, id: ObjectId, kind: ObjectType) -> Result<Arc<[u8]>, EngineError> {
        let wrong = |what: &str| EngineError::Internal(format!("{kind} {id}: {what}"));
        let (found, content) = match self.packs.read(id) {
            Some(object) => object,
            None => {
                let odb = self.repo.odb()?;
                let object = odb
                    .read(git2::Oid::from_bytes(id.as_bytes())?)
                    .map_err(|error| wrong(error.message()))?;
                (object.kind(), object.data().into())
            }
        };
        match found {
            found if found == kind => Ok(content),
            found => Err(wrong(&format!("is a {found} instead"))),
        }
    }
}

/// The repository at exactly this path.
pub(super) fn open(git_dir: &Path) -> Result<Repository, EngineError> {
    // Whatever came over the wire was hashed then, and git does not hash what it reads either. The
    // setting is the whole process's, so it is made once.
    static TRUST_WHAT_IS_STORED: Once = Once::new();
    TRUST_WHAT_IS_STORED.call_once(|| git2::opts::strict_hash_verification(false));
    Ok(Repository::open_ext(
        git_dir,
        git2::RepositoryOpenFlags::NO_SEARCH | git2::RepositoryOpenFlags::NO_DOTGIT,
        &[] as &[&Path],
    )?)
}

/// Where a repository keeps its objects.
pub(super) fn objects_dir(repo: &Repository) -> PathBuf {
    repo.commondir().join("objects")
}
