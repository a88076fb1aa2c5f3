#!/usr/bin/env bash
# Whole processes, from start to end, on the same repository in one run: restack against `git replay`
# and `git rebase --update-refs`. Each run gets a fresh copy, since git skips writing objects that
# exist; the contenders take turns, so that a busy moment hits all of them. Prints the medians.
#
# usage: compare.sh FILES BRANCHES COMMITS TRUNK [STACKS] [renames]
# environment: ROUNDS (5), REBASE_ROUNDS (1; 0 leaves rebase out), TMPDIR (where repositories go)
set -euo pipefail

if [ $# -lt 4 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
branches=$2
stacks=1
for argument in "${@:5}"; do
    [ "$argument" = renames ] || stacks=$argument
done
rounds=${ROUNDS:-5}
rebase_rounds=${REBASE_ROUNDS:-1}

crate=$(cd "$(dirname "$0")/.." && pwd)
cargo build --quiet --release --manifest-path "$crate/Cargo.toml" --examples
target=$(cargo metadata --manifest-path "$crate/Cargo.toml" --format-version 1 --no-deps |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
examples=$target/release/examples
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"$examples/make_stack_repo" "$dir/template" "$@" >/dev/null
git -C "$dir/template" gc --quiet
last=$(printf 's%03d' $((branches - 1)))
mapfile -t names < <(for ((s = 0; s < stacks; s++)); do
    for ((b = 0; b < branches; b++)); do printf 't%02d/s%03d\n' "$s" "$b"; done
done)
mapfile -t tops < <(for ((s = 0; s < stacks; s++)); do printf 't%02d/%s\n' "$s" "$last"; done)

# Runs the rest of the arguments in a fresh copy of a repository; the seconds go to $dir/$1.
measure() {
    local name=$1 template=$2 start end
    shift 2
    cp -r "$dir/$template" "$dir/work"
    start=$EPOCHREALTIME
    (cd "$dir/work" && "$@") >"$dir/output" 2>&1 || {
        cat "$dir/output" >&2
        exit 1
    }
    end=$EPOCHREALTIME
    awk -v a="$start" -v b="$end" 'BEGIN { printf "%.6f\n", b - a }' >>"$dir/$name"
    rm -rf "$dir/work"
}

median() {
    sort -n "$dir/$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

rebase_all() {
    for top in "${tops[@]}"; do
        git -c rebase.backend=merge -c core.editor=false rebase --quiet --update-refs main "$top"
    done
}

for ((round = 0; round < rounds; round++)); do
    measure replay template git replay --contained --onto main "${tops[@]/#/main..}"
    measure restack template "$examples/restack" . main "${names[@]}"
done
echo "git replay:  $(median replay) s (median of $rounds)"
echo "restack:     $(median restack) s (median of $rounds)"
awk -v a="$(median restack)" -v b="$(median replay)" 'BEGIN { printf "restack / git replay = %.2f\n", a / b }'
if [ "$rebase_rounds" -gt 0 ]; then
    cp -r "$dir/template" "$dir/checked-out"
    git -C "$dir/checked-out" checkout --quiet main
    for ((round = 0; round < rebase_rounds; round++)); do
        measure rebase checked-out rebase_all
    done
    echo "git rebase:  $(median rebase) s (median of $rebase_rounds)"
    awk -v a="$(median restack)" -v b="$(median rebase)" 'BEGIN { printf "git rebase / restack = %.0f\n", b / a }'
fi
