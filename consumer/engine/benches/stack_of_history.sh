#!/usr/bin/env bash
# Makes a stack out of a real history, for `compare.sh repository`: of the last MERGES merges on the
# main line, every second branch that was merged goes onto trunk, and of the others each goes onto the
# one before it, all from where the first of them was merged. A branch that does not apply there, or would
# not on top of that trunk, is left out: `git replay` gives up at a conflict.
#
# usage: stack_of_history.sh REPOSITORY OUT MERGES
# OUT becomes a bare repository with the branches trunk and s000, s001, ...; prints the latter's names.
set -euo pipefail

if [ $# -ne 3 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
git clone --quiet --bare --no-hardlinks "$1" "$2"
cd "$2"
mapfile -t merges < <(git rev-list --first-parent --merges --max-count="$3" --reverse HEAD)
start=$(git rev-parse "${merges[0]}^1")
git for-each-ref --format='delete %(refname)' | git update-ref --stdin
git update-ref refs/heads/trunk "$start"
git symbolic-ref HEAD refs/heads/trunk

# Prints what commits $1..$2 become on $3; fails where they do not apply.
onto() {
    git update-ref refs/heads/moving "$2"
    git replay --onto "$3" "$1..moving" 2>/dev/null | awk '{ print $3 }'
}

# usage: branch MERGE: its commits are $base..$head.
branch() {
    head=$(git rev-parse "$1^2")
    base=$(git merge-base "$1^1" "$head")
}

trunk=$start
for ((at = 1; at < ${#merges[@]}; at += 2)); do
    branch "${merges[at]}"
    moved=$(onto "$base" "$head" "$trunk") && [ -n "$moved" ] && trunk=$moved
done
stack=$start moved_stack=$trunk branches=0
for ((at = 0; at < ${#merges[@]}; at += 2)); do
    branch "${merges[at]}"
    here=$(onto "$base" "$head" "$stack") && [ -n "$here" ] || continue
    there=$(onto "$base" "$head" "$moved_stack") && [ -n "$there" ] || continue
    stack=$here moved_stack=$there
    name=$(printf 's%03d' "$branches")
    git update-ref "refs/heads/$name" "$stack"
    echo "$name"
    branches=$((branches + 1))
done
git update-ref -d refs/heads/moving
git update-ref refs/heads/trunk "$trunk"
