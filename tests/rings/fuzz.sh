# Ring fuzz: each target of tests/fuzz for some seconds under LLVM's fuzzer, one for each processor at a time, with what earlier runs
# found worth keeping. Needs a C++ compiler.
#
#   PALISADE_FUZZ_SECONDS=600 tests/run.sh fuzz     longer
#
# The fuzzer prints its seed, and where a target fails the bytes that it fails for; they are left in target/fuzz and go, as a file, into
# tests/fuzz/corpus/TARGET, where each run begins. By hand: target/fuzz/x86_64-unknown-linux-gnu/release/fuzz_policy FILE.
. tests/rings/common.sh

readonly SECONDS_EACH="${PALISADE_FUZZ_SECONDS:-12}"
# What cargo-fuzz would pass, of which all is stable: coverage by LLVM's pass, and comparisons that the fuzzer learns from.
readonly COVERAGE="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=yes --cfg fuzzing"

main() {
    [ "$(uname -m)" = x86_64 ] || skip "the fuzzer's flags are tried on x86-64 only"
    install_packages "${BUILD_PACKAGES[@]}" g++ || skip "$install_error"
    local built="$target_dir/fuzz/x86_64-unknown-linux-gnu/release" program target logs
    logs=$(mktemp -d)
    trap "rm -rf '$logs'" EXIT
    # With --target, the flags are not for build scripts. Optimised a little: for some seconds of each target the rest takes longer to build
    # than it saves.
    RUSTFLAGS="$COVERAGE" CARGO_TARGET_DIR="$target_dir/fuzz" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo build --locked --release --target x86_64-unknown-linux-gnu -p palisade-fuzz
    local started=()
    for program in "$built"/fuzz_*; do
        [ -x "$program" ] && [ ! -d "$program" ] || continue
        target=$(basename "$program" | sed s/^fuzz_//)
        fuzz "$program" "$target" >"$logs/$target" 2>&1 &
        started+=("$! $target")
        [ "${#started[@]}" -lt "$(nproc)" ] || conclude_first
    done
    while [ "${#started[@]}" -gt 0 ]; do conclude_first; done
    return "$check_failed"
}

# Waits for the target that was started first, and shows what it printed.
conclude_first() {
    local pid target
    read -r pid target <<<"${started[0]}"
    started=("${started[@]:1}")
    check "fuzz_${target}_never_fails" conclude "$pid" "$logs/$target"
}

conclude() {
    local status=0
    wait "$1" || status=$?
    cat "$2"
    return "$status"
}

fuzz() {
    local program=$1 target=$2 found
    found="$cache_dir/fuzz/$target"
    # Of an input, a minute: this ring may have the processors last of all.
    mkdir -p "$found" "tests/fuzz/corpus/$target" "$target_dir/fuzz/failures"
    "$program" -max_total_time="$SECONDS_EACH" -timeout=60 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$target_dir/fuzz/failures/$target-" "$found" "tests/fuzz/corpus/$target"
}

main
