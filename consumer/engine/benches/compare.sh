#!/usr/bin/env bash
# Whole processes, from start to refs on disk: restack against git, or against itself in another
# case. Each run gets a fresh copy of the repository, since git skips writing objects that exist. The
# contenders take turns, so that a busy moment hits all of them. Prints medians, with the least and
# the most in brackets, and the peak of memory.
#
# usage: compare.sh git FILES BRANCHES COMMITS TRUNK [STACKS] [renames]
#            restack, `git replay`, `git rebase --update-refs` on one generated repository
#        compare.sh growth FEW MANY BRANCHES COMMITS TRUNK
#            restack with few and with many files
#        compare.sh linear FILES FEW MANY COMMITS TRUNK
#            restack with few and with many branches, by commit
#        compare.sh cores FILES BRANCHES COMMITS TRUNK STACKS
#            restack on one core and on all, the replay alone
#        compare.sh repository REPOSITORY TRUNK BRANCH...
#            restack and `git replay` on a copy of that repository; the branches lowest first, each
#            one that does not stand on the one before it begins another stack
#
# environment: ROUNDS (5), REBASE_ROUNDS (1; 0 leaves rebase out), TMPDIR (where repositories go),
#              PREFIX (a command that runs each contender, such as `chrt -f 20` on a busy machine)
set -euo pipefail

usage() {
    sed -n '2,22s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

rounds=${ROUNDS:-5}
rebase_rounds=${REBASE_ROUNDS:-1}
read -ra prefix <<<"${PREFIX:-}"

crate=$(cd "$(dirname "$0")/.." && pwd)
build() {
    cargo build --quiet --release --manifest-path "$crate/Cargo.toml" --examples
    target=$(cargo metadata --manifest-path "$crate/Cargo.toml" --format-version 1 --no-deps |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    examples=$target/release/examples
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
}

# Makes a packed repository $1 of a shape, and $1.names and $1.tops: its branches and their stacks'
# highest. usage: generate NAME FILES BRANCHES COMMITS TRUNK [STACKS] [renames]
generate() {
    local name=$1 branches=$3 stacks=1 argument s b
    shift
    for argument in "${@:5}"; do
        [ "$argument" = renames ] || stacks=$argument
    done
    "$examples/make_stack_repo" "$dir/$name" "$@" >/dev/null
    git -C "$dir/$name" gc --quiet
    for ((s = 0; s < stacks; s++)); do
        for ((b = 0; b < branches; b++)); do
            printf 't%02d/s%03d\n' "$s" "$b"
        done >>"$dir/$name.names"
        printf 't%02d/s%03d\n' "$s" $((branches - 1)) >>"$dir/$name.tops"
    done
}

# Runs the rest of the arguments in a fresh copy of a repository. Milliseconds go to $dir/$1, the
# peak of memory in MiB to $dir/$1.memory, and what was printed to $dir/$1.printed.
measure() {
    local name=$1 template=$2
    shift 2
    cp -r "$dir/$template" "$dir/work"
    (cd "$dir/work" && "${prefix[@]}" "$examples/timed" "$dir/timed" "$@") \
        >"$dir/$name.printed" 2>"$dir/complaints" || {
        cat "$dir/complaints" >&2
        exit 1
    }
    cut -d' ' -f1 "$dir/timed" >>"$dir/$name"
    cut -d' ' -f2 "$dir/timed" >>"$dir/$name.memory"
    rm -rf "$dir/work"
}

# As measure, for restack of all branches of a generated repository.
restack() {
    local name=$1 template=$2
    shift 2
    local names
    mapfile -t names <"$dir/$template.names"
    measure "$name" "$template" "$@" "$examples/restack" . main "${names[@]}"
    sed -n 's/.*"replay":\([0-9.]*\).*/\1/p' "$dir/$name.printed" >>"$dir/$name.replay"
}

median() {
    sort -n "$dir/$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

ratio() {
    awk -v a="$(median "$2")" -v b="$(median "$3")" -v by="${4:-1}" -v what="$1" \
        'BEGIN { printf "%s = %.2f\n", what, a / b / by }'
}

# usage: tell WHAT FILE [UNIT]
tell() {
    sort -n "$dir/$2" | awk -v what="$1" -v unit="${3:-ms}" '{ all[NR] = $1 }
        END { printf "%-14s %8.1f %s (%.1f to %.1f, %d runs)\n",
              what ":", all[int((NR + 1) / 2)], unit, all[1], all[NR], NR }'
}

rebase_all() {
    git config rebase.backend merge
    git checkout --quiet main
    printf '#!/bin/sh\nset -e\nwhile read -r top; do git -c core.editor=false rebase --quiet --update-refs main "$top"; done\n' \
        >"$dir/rebase_all"
    chmod +x "$dir/rebase_all"
}

against_replay() {
    local tops=("$@") round
    for ((round = 0; round < rounds; round++)); do
        measure replay template git replay --contained --onto "$trunk" "${tops[@]/#/$trunk..}"
        measure restack template "$examples/restack" . "$trunk" "${names[@]}"
    done
    tell "git replay" replay
    tell restack restack
    ratio "restack / git replay" restack replay
    tell "git replay" replay.memory MiB
    tell restack restack.memory MiB
    ratio "memory, restack / git replay" restack.memory replay.memory
}

with_git() {
    [ $# -ge 4 ] || usage
    build
    generate template "$@"
    trunk=main
    mapfile -t names <"$dir/template.names"
    mapfile -t tops <"$dir/template.tops"
    against_replay "${tops[@]}"
    [ "$rebase_rounds" -gt 0 ] || return 0
    cp -r "$dir/template" "$dir/checked-out"
    (cd "$dir/checked-out" && rebase_all)
    for ((round = 0; round < rebase_rounds; round++)); do
        measure rebase checked-out sh -c "'$dir/rebase_all' <'$dir/template.tops'"
    done
    tell "git rebase" rebase
    ratio "git rebase / restack" rebase restack
}

growth() {
    [ $# -eq 5 ] || usage
    build
    generate few "$1" "${@:3}"
    generate many "$2" "${@:3}"
    for ((round = 0; round < rounds; round++)); do
        restack on-few few
        restack on-many many
    done
    tell "$1 files" on-few
    tell "$2 files" on-many
    ratio "grows by" on-many on-few
}

linear() {
    [ $# -eq 5 ] || usage
    build
    generate few "$1" "$2" "$4" "$5"
    generate many "$1" "$3" "$4" "$5"
    for ((round = 0; round < rounds; round++)); do
        restack of-few few
        restack of-many many
    done
    tell "$2 branches" of-few
    tell "$3 branches" of-many
    ratio "by commit, $3 / $2 branches" of-many of-few \
        "$(awk -v a="$3" -v b="$2" 'BEGIN { print a / b }')"
}

cores() {
    [ $# -eq 5 ] || usage
    build
    generate template "$@"
    local first
    first=$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')
    for ((round = 0; round < rounds; round++)); do
        restack one-core template taskset -c "$first"
        restack all-cores template
    done
    tell "one core" one-core.replay
    tell "$(nproc) cores" all-cores.replay
    ratio "replay, one core / $(nproc) cores" one-core.replay all-cores.replay
}

repository() {
    [ $# -ge 3 ] || usage
    build
    git clone --quiet --mirror --no-hardlinks "$1" "$dir/template"
    git -C "$dir/template" gc --quiet
    trunk=$2
    names=("${@:3}")
    # The branches on which none of those given stands.
    local name others tops=()
    for name in "${names[@]}"; do
        others=$(git -C "$dir/template" for-each-ref --format='%(refname:short)' --contains "$name" \
            "${names[@]/#/refs/heads/}")
        [ "$others" != "$name" ] || tops+=("$name")
    done
    against_replay "${tops[@]}"
    printf 'moved %s, in conflict %s of %d branches\n' \
        "$(grep -o '"from"' "$dir/restack.printed" | wc -l)" \
        "$(sed 's/.*"conflicts":\[\([^]]*\)\].*/\1/' "$dir/restack.printed" | grep -o '"branch"' | wc -l)" \
        "${#names[@]}"
}

[ $# -gt 0 ] || usage
case $1 in
git) with_git "${@:2}" ;;
growth | linear | cores | repository) "$@" ;;
*) usage ;;
esac
