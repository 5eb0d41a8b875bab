#!/usr/bin/env bash
# Runs the rings of tests that this machine can run, and says by name what it skipped and why.
#
#   tests/run.sh                 every ring but bench: lint unit sim host vm cost, and beside them fuzz arm64
#   tests/run.sh RING...         the named ones; `bench` runs only so
#
# A ring is tests/rings/RING.sh. It prints results as Rust's own test harness does ("test result: ok. 3 passed; 0 failed; 1 ignored"),
# exits 0 or not, and 77 where the machine cannot run it (its last line then says why). A ring that fails without naming a failed test
# (it did not compile, its time ran out) or that passes without running any counts as one failure.
# The last line is always "N passed, N failed, N skipped"; the exit status is 0 only if nothing failed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ALL_RINGS=(lint unit sim host vm cost fuzz arm64)
# What takes processors alone and asks no clock: where ring host is wanted too, these run beside the others, at low priority, on what builds
# and waiting tests leave idle. What they print comes at the end.
declare -rA BESIDE=([fuzz]=1 [arm64]=1)
# Seconds, building included, for two cores and an empty target directory; a whole run takes far less than the sum.
declare -rA BUDGET=([lint]=900 [unit]=2100 [sim]=900 [fuzz]=1800 [arm64]=1800 [host]=2700 [vm]=2100 [cost]=1400 [bench]=1500)
readonly SKIPPED_STATUS=77

passed=0 failed=0 skipped=0
ring_pid=
beside_pid=
beside=()

main() {
    local rings=("$@") ring
    [ $# -gt 0 ] || rings=("${ALL_RINGS[@]}")
    for ring in "${rings[@]}"; do
        [ -n "${BUDGET[$ring]:-}" ] || die "no ring '$ring'; there are: ${ALL_RINGS[*]} bench"
    done
    logs="${CARGO_TARGET_DIR:-target}/rings"
    mkdir -p "$logs"
    summary=()
    local in_turn=()
    for ring in "${rings[@]}"; do
        if [ -n "${BESIDE[$ring]:-}" ] && [[ " ${rings[*]} " == *" host "* ]]; then beside+=("$ring"); else in_turn+=("$ring"); fi
    done
    start_beside
    for ring in "${in_turn[@]}"; do run_ring "$ring"; done
    end_beside
    printf '\n'
    printf '%s\n' "${summary[@]}"
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" -eq 0 ]
}

die() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 2
}

# Runs one ring under its budget, shows its output as it comes, and adds its counts to the totals.
run_ring() {
    local ring=$1 log="$logs/$1.$$.log" status=0 started=$SECONDS
    printf '\n==== ring %s (at most %d s)\n' "$ring" "${BUDGET[$ring]}"
    : >"$log"
    # Not in a pipe to tee: timeout must be our child, so that Ctrl-C reaches the whole ring through it.
    start_ring "$ring" "$log"
    tail -n +1 -f --pid="$ring_pid" --sleep-interval=0.2 "$log" &
    wait "$ring_pid" || status=$?
    ring_pid=
    wait $! || true
    conclude "$ring" "$log" "$status" $((SECONDS - started))
    rm -f "$log"
}

# In the background, as $ring_pid.
start_ring() {
    timeout --kill-after=20 "${BUDGET[$1]}" bash "tests/rings/$1.sh" >"$2" 2>&1 </dev/null &
    ring_pid=$!
}

# Runs the rings of `beside` one after another, each under its budget.
start_beside() {
    [ "${#beside[@]}" -gt 0 ] || return 0
    run_beside &
    beside_pid=$!
}

run_beside() {
    local ring status started
    trap 'kill -TERM "$ring_pid" 2>/dev/null; exit 130' TERM
    renice -n 15 -p "$BASHPID" >/dev/null
    for ring in "${beside[@]}"; do
        status=0 started=$SECONDS
        start_ring "$ring" "$logs/$ring.$$.log"
        wait "$ring_pid" || status=$?
        printf '%d %d\n' "$status" $((SECONDS - started)) >"$logs/$ring.$$.status"
    done
}

# Waits for them, shows what each printed, and adds its counts to the totals. One that has no status did not come to its end.
end_beside() {
    local ring status seconds
    [ -z "$beside_pid" ] || wait "$beside_pid" || true
    beside_pid=
    for ring in ${beside[@]+"${beside[@]}"}; do
        printf '\n==== ring %s (ran beside others, at most %d s)\n' "$ring" "${BUDGET[$ring]}"
        cat "$logs/$ring.$$.log" 2>/dev/null || : >"$logs/$ring.$$.log"
        read -r status seconds 2>/dev/null <"$logs/$ring.$$.status" || status=1 seconds=0
        conclude "$ring" "$logs/$ring.$$.log" "$status" "$seconds"
        rm -f "$logs/$ring.$$".{log,status}
    done
}

conclude() {
    local ring=$1 log=$2 status=$3 seconds=$4 p f s note=
    if [ "$status" -eq "$SKIPPED_STATUS" ]; then
        skipped=$((skipped + 1))
        summary+=("ring $ring: SKIPPED: $(tail -n 1 "$log")")
        return
    fi
    read -r p f s < <(count "$log")
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        f=$((f + 1)) note=" (stopped after its ${BUDGET[$ring]} s)"
    elif [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        f=1 note=" (failed with status $status before it could name a test)"
    elif [ $((p + f)) -eq 0 ]; then
        f=1 note=" (ran no test)"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    summary+=("ring $ring: $p passed, $f failed, $s skipped in $seconds s$note")
    [ "$f" -eq 0 ] || summary+=("$(failures "$log")")
}

# "passed failed ignored" over all result lines of a ring. A program that was stopped or died has none: then its tests are counted by
# their own lines, and the death as a failure.
count() {
    awk '/^running [0-9]+ tests?$/ { ok = bad = left = 0 }
         /^test .* \.\.\. ok$/ { ok++ }
         /^test .* \.\.\. FAILED$/ { bad++ }
         /^test .* \.\.\. ignored/ { left++ }
         /^  process didn.t exit successfully: .*\(signal: / { died++; n["passed;"] += ok; n["ignored;"] += left; ok = bad = left = 0 }
         /^test result: / { for (i = 2; i <= NF; i++) n[$i] += $(i - 1); ok = bad = left = 0 }
         END { printf "%d %d %d\n", n["passed;"] + ok, n["failed;"] + died + bad, n["ignored;"] + left }' "$1"
}

# Names of the failed tests, for the end of a long log, each with the beginning of what it printed where the harness kept that. A test that
# prints while it runs has its FAILED on a line of its own: its name is in the list at the harness's end. What Cargo says of a target that did
# not compile or died comes first.
failures() {
    local name
    awk '/^error(\[E[0-9]+\])?: / || /process didn.t exit successfully/ { if (said++ < 8) print "    " substr($0, 1, 500) }' "$1"
    while read -r name; do
        printf '    failed: %s\n' "$name"
        awk -v name="$name" '
            $0 == "---- " name " stdout ----" || $0 == "---- " name " ----" { left = 12; next }
            /^---- .* ----$/ || /^failures:$/ { left = 0 }
            left > 0 && NF { print "        " substr($0, 1, 500); left-- }' "$1"
    done < <(failed_tests "$1" | sort -u)
}

failed_tests() {
    sed -nE 's/^test (.*[^ ]) *\.\.\. FAILED$/\1/p' "$1"
    awk '/^failures:$/ { listed = 1; next }
         /^---- .* ----$/ || /^test result: / { listed = 0 }
         listed && /^    [a-z0-9_:]+$/ { print $1 }' "$1"
}

stop_ring() {
    [ -z "$ring_pid" ] || kill -TERM "$ring_pid" 2>/dev/null || true
    [ -z "$beside_pid" ] || kill -TERM "$beside_pid" 2>/dev/null || true
    exit 130
}
trap stop_ring INT TERM

main "$@"
