# Ring sim: simulated nodes through faults, each seed twice: a fixed set of seeds, and fresh ones for as long as there is time.
#
#   PALISADE_SIM_SECONDS=3600 tests/run.sh sim      fresh seeds for longer
#   PALISADE_SIM_SEED=N tests/run.sh sim            the fresh seeds of an earlier run: it says which
#
# A fresh seed that fails goes into tests/rings/sim-seeds.txt, with what it found.
. tests/rings/common.sh

readonly SECONDS_FRESH="${PALISADE_SIM_SECONDS:-110}"
readonly SEED="${PALISADE_SIM_SEED:-$(date +%s)}"

main() {
    # Marked points of actors are in this build, and in no other.
    cargo build --locked -p palisade-simulation --features fault-points
    check sim_fixed_seeds_repeat_and_violate_nothing simulate --seeds-from tests/rings/sim-seeds.txt
    printf 'fresh seeds are drawn from %s\n' "$SEED"
    check sim_fresh_seeds_repeat_and_violate_nothing \
        simulate --seed "$SEED" --random 100000 --within "$SECONDS_FRESH" --nodes 1 --minutes 0.2
    check sim_fresh_seeds_of_several_nodes_repeat_and_violate_nothing \
        simulate --seed "$SEED" --random 20 --within 30 --nodes 4 --minutes 0.33
    return "$check_failed"
}

simulate() {
    "$target_dir/debug/palisade-simulation" --jobs "$(nproc)" "$@"
}

main
