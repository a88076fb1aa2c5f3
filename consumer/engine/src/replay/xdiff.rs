//! Git's own content merge of one file, called in the libgit2 that is linked into this program.
//!
//! Git merges files with its histogram diff. libgit2 bundles the same code (xdiff) but offers only
//! the Myers and patience diffs through its API, and those say "clean" or "conflict" differently.
//! So this module, and no other, calls `xdl_merge` itself.
//!
//! Guarantees: [`merge`] answers with the bytes git would write, or not at all. It never writes
//! conflict markers; a conflict is for git to describe.
//!
//! # Which git this equals
//!
//! Git before 2.54. Later ones changed the histogram diff; [`equals_git`] says no to them, and git
//! itself then merges the files, until libgit2 follows. libgit2-sys is pinned to one version, so that
//! an update of the bundled code is a decision with a run of the differential test behind it.
//!
//! # Why the unsafe code is sound
//!
//! - The structs repeat the declarations of `deps/xdiff/xdiff.h` in libgit2 1.9; `vendored` makes
//!   that the code that is linked. The test below fails where flags or layout go wrong.
//! - libgit2's allocator is set up by `libgit2_sys::init()`, which is called first.
//! - `xdl_merge` only reads the inputs (their pointers are mutable by C custom), keeps none of them,
//!   and has no global state, so that it may run on several threads.
//! - The result is allocated by libgit2's allocator and is freed by it, through `git_buf_dispose`.

use std::ffi::{c_char, c_int, c_long, c_ulong, c_void};
use std::ptr;

/// Largest file git merges line by line (`MAX_XDIFF_SIZE`), in bytes.
const MAX_SIZE: usize = 1_023 * 1024 * 1024;
/// Git looks for a NUL in this many leading bytes to tell a binary file.
const BINARY_PROBE: usize = 8_000;

const XDF_HISTOGRAM_DIFF: c_ulong = 1 << 15;
const XDL_MERGE_ZEALOUS: c_int = 2;
const MARKER_SIZE: c_int = 7;

#[repr(C)]
struct MmFile {
    ptr: *mut c_char,
    size: c_long,
}

#[repr(C)]
struct XpParam {
    flags: c_ulong,
    ignore_regex: *mut *mut c_void,
    ignore_regex_nr: usize,
    anchors: *mut *mut c_char,
    anchors_nr: usize,
}

#[repr(C)]
struct XmParam {
    xpp: XpParam,
    marker_size: c_int,
    level: c_int,
    favor: c_int,
    style: c_int,
    ancestor: *const c_char,
    file1: *const c_char,
    file2: *const c_char,
}

unsafe extern "C" {
    fn xdl_merge(
        orig: *mut MmFile,
        mf1: *mut MmFile,
        mf2: *mut MmFile,
        xmp: *const XmParam,
        result: *mut MmFile,
    ) -> c_int;
}

/// Whether [`merge`] gives what a git of this version (major, minor) gives.
pub(super) fn equals_git(version: (u32, u32)) -> bool {
    version < (2, 54)
}

/// What came of a content merge.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The merged file.
    Clean(Vec<u8>),
    /// Binary, too large, in conflict, or the merge failed: git has to look at it.
    ForGit,
}

/// Merges the changes from `base` to `ours` and from `base` to `theirs` into one file.
pub(super) fn merge(base: &[u8], ours: &[u8], theirs: &[u8]) -> Content {
    let for_git = |file: &&[u8]| file.len() > MAX_SIZE || is_binary(file);
    if [base, ours, theirs].iter().any(for_git) {
        return Content::ForGit;
    }
    libgit2_sys::init();
    let (mut base, mut ours, mut theirs) = (mmfile(base), mmfile(ours), mmfile(theirs));
    let mut result = MmFile {
        ptr: ptr::null_mut(),
        size: 0,
    };
    let param = parameters();
    // SAFETY: every pointer is to a live value of the type C expects, the three files point to
    // slices that outlive the call, and `result` is empty; see the module's documentation.
    let conflicts = unsafe { xdl_merge(&mut base, &mut ours, &mut theirs, &param, &mut result) };
    let merged = take(result);
    if conflicts == 0 {
        Content::Clean(merged)
    } else {
        Content::ForGit
    }
}

/// Git's test for binary content.
fn is_binary(file: &[u8]) -> bool {
    file[..file.len().min(BINARY_PROBE)].contains(&0)
}

/// Git's parameters for merging a file that has no attributes.
fn parameters() -> XmParam {
    XmParam {
        xpp: XpParam {
            flags: XDF_HISTOGRAM_DIFF,
            ignore_regex: ptr::null_mut(),
            ignore_regex_nr: 0,
            anchors: ptr::null_mut(),
            anchors_nr: 0,
        },
        marker_size: MARKER_SIZE,
        level: XDL_MERGE_ZEALOUS,
        favor: 0,
        style: 0,
        ancestor: ptr::null(),
        file1: ptr::null(),
        file2: ptr::null(),
    }
}

fn mmfile(bytes: &[u8]) -> MmFile {
    MmFile {
        ptr: bytes.as_ptr().cast_mut().cast(),
        // Bounded by MAX_SIZE.
        size: bytes.len() as c_long,
    }
}

/// Copies the result and gives it back to libgit2's allocator.
fn take(result: MmFile) -> Vec<u8> {
    let Ok(size) = usize::try_from(result.size) else {
        return Vec::new();
    };
    if result.ptr.is_null() {
        return Vec::new();
    }
    // SAFETY: `xdl_merge` set pointer and size together, to memory that it wrote wholly.
    let merged = unsafe { std::slice::from_raw_parts(result.ptr.cast::<u8>(), size) }.to_vec();
    let mut buffer = libgit2_sys::git_buf {
        ptr: result.ptr,
        reserved: size,
        size,
    };
    // SAFETY: the memory is libgit2's, as a buffer's would be, and is not used again.
    unsafe { libgit2_sys::git_buf_dispose(&mut buffer) };
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(range: std::ops::Range<u32>, edit: impl Fn(u32) -> Option<&'static str>) -> Vec<u8> {
        range
            .map(|n| edit(n).map_or_else(|| format!("line {n}\n"), |text| format!("{text}\n")))
            .collect::<String>()
            .into_bytes()
    }

    #[test]
    fn edits_of_different_lines_go_together() {
        let base = lines(0..20, |_| None);
        let ours = lines(0..20, |n| (n == 3).then_some("ours"));
        let theirs = lines(0..20, |n| (n == 15).then_some("theirs"));
        let want = lines(0..20, |n| match n {
            3 => Some("ours"),
            15 => Some("theirs"),
            _ => None,
        });
        assert_eq!(merge(&base, &ours, &theirs), Content::Clean(want));
    }

    #[test]
    fn edits_of_one_line_are_for_git() {
        let base = lines(0..9, |_| None);
        let ours = lines(0..9, |n| (n == 3).then_some("ours"));
        let theirs = lines(0..9, |n| (n == 3).then_some("theirs"));
        assert_eq!(merge(&base, &ours, &theirs), Content::ForGit);
    }

    #[test]
    fn both_may_empty_the_file() {
        assert_eq!(merge(b"a\nb\n", b"", b""), Content::Clean(Vec::new()));
    }

    #[test]
    fn binary_files_are_for_git() {
        let text = b"a\nb\nc\nd\ne\n";
        let binary = b"a\nb\nc\nd\ne\0\n";
        assert_eq!(merge(text, text, binary), Content::ForGit);
        let mut late = vec![b'x'; BINARY_PROBE];
        late.extend_from_slice(b"\n\0");
        assert_eq!(merge(&late, &late, &late), Content::Clean(late.clone()));
    }

    #[test]
    fn later_gits_are_not_what_this_equals() {
        assert!(equals_git((2, 45)) && equals_git((2, 53)));
        assert!(!equals_git((2, 54)) && !equals_git((3, 0)));
    }
}
