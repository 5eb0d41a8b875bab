# Ring sim: simulated nodes through faults, each seed twice: a fixed set of seeds, and fresh ones.
#
#   PALISADE_SIM_SEEDS=20000 tests/run.sh sim       more fresh seeds; a longer time for them: PALISADE_SIM_SECONDS
#   PALISADE_SIM_SEED=N tests/run.sh sim            the fresh seeds of an earlier run: it says which
#
# The fixed seeds together must reach every state of simulation/src/coverage.rs: where they do not any more, one that does is added.
# A fresh seed that fails goes into tests/rings/sim-seeds.txt, with what it found. For whole days of seeds there is a quicker build:
# cargo run --profile simulation -p palisade-simulation --features fault-points -- --random 100000 --jobs 8
. tests/rings/common.sh

readonly SEEDS_FRESH="${PALISADE_SIM_SEEDS:-480}"
# About 30 s on two idle cores.
readonly SECONDS_FRESH="${PALISADE_SIM_SECONDS:-240}"
readonly SEED="${PALISADE_SIM_SEED:-$(date +%s)}"

main() {
    # Marked points of actors are in this build, and in no other. Optimised a little: it costs a minute, and seeds run five times as fast.
    CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo build --locked --workspace --features palisade-simulation/fault-points --bin palisade-simulation
    check sim_fixed_seeds_repeat_and_violate_nothing simulate --seeds-from tests/rings/sim-seeds.txt --reach-all
    printf 'fresh seeds are drawn from %s\n' "$SEED"
    check sim_fresh_seeds_repeat_and_violate_nothing \
        simulate --seed "$SEED" --random "$SEEDS_FRESH" --within "$SECONDS_FRESH" --nodes 1 --minutes 0.2
    check sim_fresh_seeds_of_several_nodes_repeat_and_violate_nothing \
        simulate --seed "$SEED" --random 20 --within 30 --nodes 4 --minutes 0.33
    return "$check_failed"
}

simulate() {
    "$target_dir/debug/palisade-simulation" --jobs "$(nproc)" "$@"
}

main
