#!/usr/bin/env bash
# Plays one stack through in containers, against the real JetStream and the real workers, and checks
# what is on the remote afterwards. Exits 0 only if all of it is as it should be.
set -euo pipefail

remote=${REMOTES:-/remotes}/web-$$.git
repo=web-$$
work=$(mktemp -d)
export GIT_AUTHOR_NAME=harness GIT_AUTHOR_EMAIL=harness@example.com
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL

commit() { # FILE: commits a file of that name
    echo "$1" > "$work/$1"
    git -C "$work" add "$1"
    git -C "$work" commit --quiet --message "$1"
}

echo "== a remote with a stack of three branches"
git init --quiet --bare --initial-branch=main "$remote"
git init --quiet --initial-branch=main "$work"
commit m0
for branch in a b c; do
    git -C "$work" switch --quiet --create "$branch"
    commit "$branch"1
done
git -C "$work" push --quiet "$remote" --all

echo "== register and restack"
backstack doctor
backstack repo add "$repo" "$remote"
backstack sync "$repo" --wait
for branch in a b c; do backstack register "$repo" "$branch" --wait; done
git -C "$work" switch --quiet main
commit m1
git -C "$work" push --quiet "$remote" main
backstack restack "$repo" --wait
backstack stack "$repo"

echo "== what is on the remote"
below=main
for branch in a b c; do
    parent=$(git -C "$remote" rev-parse "$branch^")
    expected=$(git -C "$remote" rev-parse "$below")
    [ "$parent" = "$expected" ] || { echo "$branch is not on $below" >&2; exit 1; }
    below=$branch
done
backstack repo remove "$repo"
rm -rf "$remote"
echo "== all of it works"
