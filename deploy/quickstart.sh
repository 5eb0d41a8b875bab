#!/usr/bin/env bash
# Palisade's main job on this machine, in one command: three real containers, each held to one policy of deploy/examples.
#
#   deploy/quickstart.sh             runs the acts, shows what became of each, then waits; Ctrl-C cleans up everything
#   deploy/quickstart.sh --check     the same without waiting; exits 0 only if every verdict was the stated one
#   --profile NAME                   Cargo profile of the binary (default: release)
#   --binary FILE                    a palisade that is built already
#
# Needs root and a Rust toolchain; other packages that are missing are installed, by name. What it starts is its own: containerd's root,
# state and socket, the node's sockets and the pins of its kernel programs lie in one temporary directory, so nothing of a containerd or
# a node that runs here already is touched.
#
# "Expected" is what `palisade probe` says that this kernel can do, not what one would wish: where nothing can deny an act, the
# process is killed, or the act is only seen, and the table says which.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/rings/common.sh

readonly RUN_PACKAGES=(gcc libc6-dev containerd runc busybox-static jq util-linux)
readonly IMAGE=localhost/palisade-example:1
readonly POD_NAMESPACE=example
readonly PATIENCE_S=60

check_only= profile=release palisade=
work= node_pid= containerd_pid= server_pids=()
rows=0 wrong=0 execs=0
declare -A pids=()

main() {
    parse "$@"
    [ "$(id -u)" -eq 0 ] || die "needs root: it loads kernel programs and starts containers (sudo env \"PATH=\$PATH\" $0)"
    [ -n "$palisade" ] || command -v cargo >/dev/null || die "needs a Rust toolchain (1.95 or newer; https://rustup.rs), and found no cargo in $PATH"
    # What a trap says must not go where the interrupted command's output goes.
    exec 3>&1 4>&2
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap clean_up EXIT
    install_packages "${RUN_PACKAGES[@]}" || die "$install_error"
    [ -n "$palisade" ] || build
    prepare
    start_containerd
    start_node
    start_pods
    show_acts
    conclude
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        --check) check_only=yes ;;
        --help | -h) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' deploy/quickstart.sh && exit 0 ;;
        --profile) profile=${2:?--profile needs a name} && shift ;;
        --binary) palisade=$(realpath -e "${2:?--binary needs a file}") && shift ;;
        *) die "unknown argument $1; see $0 --help" ;;
        esac
        shift
    done
}

die() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

say() {
    printf -- '-- %s\n' "$*"
}

# ---- what everything stands on

build() {
    install_packages "${BUILD_PACKAGES[@]}" || die "$install_error"
    say "building palisade (profile $profile; the first time that takes minutes$([ "$profile" = dev ] || printf ', fewer with --profile dev'))"
    cargo build --locked --profile "$profile" -p palisade-node
    local directory=$profile
    [ "$profile" != dev ] || directory=debug
    palisade=$(realpath "$target_dir/$directory/palisade")
}

prepare() {
    # Short: paths of sockets end at 107 bytes.
    work=$(mktemp -d /tmp/palisade.XXXXXX)
    runtime_namespace=quickstart-${work##*.}
    mkdir "$work/bpf" "$work/fifo"
    # A BPF file system of its own: when it is unmounted, nothing pinned in it is left.
    mount -t bpf bpf "$work/bpf"
    "$palisade" probe --output json >"$work/probe.json"
    say "kernel $(jq -r .release "$work/probe.json"): $(jq -r '[.families[] | "\(.family) by \(.tier)"] | join(", ")' "$work/probe.json")"
}

# start NAME COMMAND...: in a session of its own, so that Ctrl-C reaches this script alone, which then stops things in order.
start() {
    local name=$1
    shift
    setsid "$@" >"$work/$name.log" 2>&1 </dev/null 3>&- 4>&- &
    started_pid=$!
}

# wait_for WHAT LOG COMMAND...: until the command succeeds.
wait_for() {
    local what=$1 log=$2 deadline=$((SECONDS + PATIENCE_S))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || {
            tail -n 20 "$work/$log.log" >&2
            die "$what did not come in $PATIENCE_S s (above: the end of its log)"
        }
        sleep 0.05
    done
}

# In a session of its own as well: a `ctr run` that Ctrl-C kills would leave a container that comes to life after the clean-up.
ctr() {
    setsid --wait ctr --address "$work/c.sock" --namespace "$runtime_namespace" "$@" </dev/null
}

start_containerd() {
    cat >"$work/containerd.toml" <<-EOF
	version = 2
	root = "$work/root"
	state = "$work/state"
	disabled_plugins = ["io.containerd.grpc.v1.cri"]
	[grpc]
	  address = "$work/c.sock"
	EOF
    start containerd containerd --config "$work/containerd.toml"
    containerd_pid=$started_pid
    wait_for "containerd" containerd ctr version
    deploy/image/make.sh "$work/image.tar" "$IMAGE"
    ctr images import "$work/image.tar" >/dev/null
    ln -s "$PWD/deploy/hooks/runc-with-hook" "$work/runc-with-hook"
    jq -n --arg path "$palisade" --arg socket "$work/hook.sock" \
        '{path: $path, args: ["palisade", "hook", "--socket", $socket, "--timeout", "15"], timeout: 20}' >"$work/hook.json"
}

start_node() {
    start node env NO_COLOR=1 "$palisade" node --node-name quickstart --policy-dir deploy/examples --state-dir "$work/state" --containerd "$work/c.sock" \
        --hook-socket "$work/hook.sock" --admin-socket "$work/admin.sock" --admin-token-file "$work/admin.token" \
        --alert-file "$work/alerts.jsonl" --no-alert-stdout --pin-root "$work/bpf/palisade"
    node_pid=$started_pid
    # It answers once its programs are in the kernel, which may take a slow machine many seconds.
    wait_for "the node" node "$palisade" tree --admin-socket "$work/admin.sock"
    say "palisade node runs (process $node_pid) with the policies of deploy/examples"
}

# ---- three pods

start_pods() {
    start_pod pod-a 'cat /etc/hostname'
    start_pod pod-b 'sh -c "id && ls / && ps"'
    start_pod pod-c 'act connect 127.0.0.1 5001 | grep result=ok'
    # Two servers beside pod C, in its network namespace as a sidecar would be: for the client it makes no difference where they are.
    local port
    for port in 5000 5001; do
        start "server-$port" nsenter --target "${pids[pod-c]}" --net "$work/act" serve 127.0.0.1 "$port"
        server_pids+=("$started_pid")
        wait_for "the server on port $port" "server-$port" grep -q serving "$work/server-$port.log"
    done
    for pod in pod-a pod-b pod-c; do run_in "$pod" touch /tmp/go; done
}

# start_pod NAME WORK: a container that repeats its permitted work from when it is told to until the end.
start_pod() {
    local name=$1 work_loop="until [ -e /tmp/go ]; do sleep 0.1; done
        while :; do if $2 >/dev/null 2>&1; then echo ok; else echo failed; fi >>/tmp/work; sleep 0.2; done"
    ctr run --detach --runc-binary "$work/runc-with-hook" --fifo-dir "$work/fifo" --label app="$name" \
        --label io.kubernetes.pod.name="$name" --label io.kubernetes.pod.namespace="$POD_NAMESPACE" \
        --label io.kubernetes.container.name=main "$IMAGE" "$name" /bin/sh -c "$work_loop" >"$work/$name.log" 2>&1 || {
        cat "$work/$name.log" >&2
        die "$name did not start"
    }
    pids[$name]=$(ctr tasks list | awk -v id="$name" '$1 == id { print $2 }')
    [ -e "$work/act" ] || cp "$(inside "$name" /bin/act)" "$work/act"
}

# run_in POD COMMAND...
run_in() {
    local pod=$1
    shift
    execs=$((execs + 1))
    timeout "$PATIENCE_S" setsid --wait ctr --address "$work/c.sock" --namespace "$runtime_namespace" tasks exec \
        --fifo-dir "$work/fifo" --exec-id "act-$execs" "$pod" "$@" >>"$work/execs.log" 2>&1 </dev/null
}

# inside POD PATH: the file of the pod as the host reads it, which no policy of the pod is about.
inside() {
    printf '/proc/%s/root%s' "${pids[$1]}" "$2"
}

# act POD WORDS...: does it in the pod and prints its one line of report. By a file, for `ctr exec` may end before it has read all output.
act() {
    local pod=$1
    shift
    run_in "$pod" sh -c 'rm -f /tmp/report; exec act "$@" >/tmp/report' sh "$@" || true
    tail -n 1 "$(inside "$pod" /tmp/report)" 2>/dev/null | grep . || echo 'result=? effect=?'
}

# ---- the acts, live

show_acts() {
    printf '\n%-6s  %-34s  %-13s  %-26s  %-13s  %-10s\n' POD ACT EXPECTED 'SYSTEM CALL, EFFECT' VERDICT TIER
    forbidden pod-a 'open /etc/bin/secret' file open open /etc/bin/secret
    forbidden pod-a 'execute /etc/bin/tool' process exec exec /etc/bin/tool
    permitted pod-a 'open /etc/hostname' open /etc/hostname
    permitted pod-a 'trace another process' ptrace
    forbidden pod-b 'trace another process' ptrace ptrace ptrace
    permitted pod-b 'open /etc/bin/secret' open /etc/bin/secret
    permitted pod-b 'execute /etc/bin/tool' exec /etc/bin/tool
    forbidden pod-c 'reach TCP port 5000' network connect connect 127.0.0.1 5000
    permitted pod-c 'reach TCP port 5001' connect 127.0.0.1 5001
    for pod in pod-a pod-b pod-c; do own_work "$pod"; done
    printf '\n'
}

# What becomes of a forbidden act by the tier that holds the family here.
expected_verdict() {
    case $(jq -r --arg family "$1" '.families[] | select(.family == $family).tier' "$work/probe.json") in
    bpf-lsm | fmod-ret | cgroup-bpf | fanotify) echo denied ;;
    kill) echo killed ;;
    audit) echo unenforceable ;;
    *) die "palisade probe names no tier for the family $1" ;;
    esac
}

# forbidden POD ACT FAMILY OPERATION WORDS...: runs the act and holds result, effect and alert against what is expected.
forbidden() {
    local pod=$1 act=$2 family=$3 operation=$4 expected outcome alert verdict tier right
    shift 4
    expected=$(expected_verdict "$family")
    local seen
    seen=$(alert_count)
    outcome=$(act "$pod" "$@")
    alert=$(alert_of "$pod" "$operation" "$seen")
    verdict=$(jq -r '.verdict' <<<"$alert") tier=$(jq -r '.tier' <<<"$alert")
    case $expected:$outcome in
    denied:result=E*' effect=absent' | killed:'result=SIGKILL effect=absent' | unenforceable:'result=ok effect=present') right=yes ;;
    *) right=no ;;
    esac
    [ "$verdict" = "$expected" ] || right=no
    row "$pod" "$act" "$expected" "$outcome" "$verdict" "$tier" "$right"
}

# permitted POD ACT WORDS...: the act works, and nobody is alarmed.
permitted() {
    local pod=$1 act=$2 outcome verdict=- right=yes seen
    shift 2
    seen=$(alert_count_at_rest)
    outcome=$(act "$pod" "$@")
    # Alerts come some milliseconds after the act; an alert of a permitted act would have come by now.
    sleep 0.3
    [ "$(alerts_of "$pod" "$seen" | wc -l)" -eq 0 ] || verdict=alert right=no
    [ "$outcome" = 'result=ok effect=present' ] || right=no
    row "$pod" "$act" permitted "$outcome" "$verdict" - "$right"
}

# own_work POD: what the container itself has done all the while.
own_work() {
    local rounds good failed right=yes
    rounds=$(cat "$(inside "$1" /tmp/work)") || rounds=
    good=$(grep -c ok <<<"$rounds") || true
    failed=$(grep -c failed <<<"$rounds") || true
    [ "$failed" -eq 0 ] && [ "$good" -gt 0 ] || right=no
    row "$1" 'its own work meanwhile' permitted "$good times done, $failed failed" - - "$right"
}

row() {
    local mark=
    rows=$((rows + 1))
    [ "$7" = yes ] || mark='  <-- not as expected' wrong=$((wrong + 1))
    printf '%-6s  %-34s  %-13s  %-26s  %-13s  %-10s%s\n' "$1" "$2" "$3" "$(tidy "$4")" "$5" "$6" "$mark"
}

# "result=EPERM effect=absent" as people say it.
tidy() {
    local text=${1/result=/}
    printf '%s' "${text/ effect=/, }"
}

alert_count() {
    if [ -e "$work/alerts.jsonl" ]; then wc -l <"$work/alerts.jsonl"; else echo 0; fi
}

# Once what is told of acts before has come, which may take a moment on a busy machine.
alert_count_at_rest() {
    local before= now
    now=$(alert_count)
    until [ "$now" = "$before" ]; do
        before=$now
        sleep 0.3
        now=$(alert_count)
    done
    echo "$now"
}

# alerts_of POD SEEN: its alerts after the first SEEN lines, one a line.
alerts_of() {
    [ -e "$work/alerts.jsonl" ] || return 0
    tail -n "+$(($2 + 1))" "$work/alerts.jsonl" | jq -c --arg pod "$1" --arg namespace "$POD_NAMESPACE" \
        'select(.workload.name == $pod and .workload.namespace == $namespace)'
}

# alert_of POD OPERATION SEEN: waits for the alert of an act.
alert_of() {
    local alert= deadline=$((SECONDS + 5))
    while [ -z "$alert" ] && [ "$SECONDS" -lt "$deadline" ]; do
        alert=$(alerts_of "$1" "$3" | jq -c --arg operation "$2" 'select(.subject.operation == $operation)' | sed -n 1p)
        [ -n "$alert" ] || sleep 0.05
    done
    printf '%s\n' "${alert:-{\"verdict\": \"no alert\", \"tier\": \"-\"\}}"
}

# ---- the end

conclude() {
    if [ "$wrong" -eq 0 ]; then say "all $rows rows are as expected"; else say "$wrong of $rows rows are not as expected"; fi
    if [ -z "$check_only" ]; then
        cat <<-EOF
		-- the admin endpoint: $work/admin.sock (REST over a Unix socket, root only); try
		     $palisade tree --admin-socket $work/admin.sock
		     $palisade logs --follow --admin-socket $work/admin.sock
		-- a shell in pod A (then: cat /etc/bin/secret):
		     ctr --address $work/c.sock --namespace $runtime_namespace tasks exec --tty --exec-id me pod-a sh
		-- alerts: $work/alerts.jsonl    log of the node: $work/node.log
		-- Ctrl-C ends all of it
		EOF
        # Not a bare sleep: a node that dies is said at once.
        while kill -0 "$node_pid" 2>/dev/null; do sleep 1; done
        tail -n 20 "$work/node.log" >&2
        die "the node ended by itself (above: the end of its log)"
    fi
    [ "$wrong" -eq 0 ] || {
        say "the end of the node's log:"
        tail -n 20 "$work/node.log"
        exit 1
    }
}

# stop PID: asks, waits, insists.
stop() {
    [ -n "$1" ] || return 0
    kill "$1" 2>/dev/null || return 0
    local tries=100
    while kill -0 "$1" 2>/dev/null && [ "$tries" -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    kill -KILL "$1" 2>/dev/null || true
}

# Whatever was reached, in the reverse order; nothing in it may end it early.
clean_up() {
    local status=$? pod pid
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    exec >&3 2>&4
    [ -n "$work" ] || exit "$status"
    [ -n "$check_only" ] || printf '\n'
    say "cleaning up"
    for pid in "${server_pids[@]}"; do stop "$pid"; done
    if [ -n "$containerd_pid" ]; then
        for pod in pod-a pod-b pod-c; do ctr tasks delete --force "$pod"; done >/dev/null 2>&1
    fi
    stop "$node_pid"
    "$palisade" unload --pin-root "$work/bpf/palisade" >/dev/null 2>&1
    stop "$containerd_pid"
    remove_mounts
    find /sys/fs/cgroup -maxdepth 2 -type d -name "$runtime_namespace" -exec rmdir {} + 2>/dev/null
    rm -rf --one-file-system "$work"
    [ ! -e "$work" ] || say "could not remove all of $work"
    exit "$status"
}

# Deepest first; there are none but the BPF file system if containerd ended in order.
remove_mounts() {
    local point
    awk -v work="$work/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r point; do
        umount "$point" || umount --lazy "$point"
    done
}

main "$@"
