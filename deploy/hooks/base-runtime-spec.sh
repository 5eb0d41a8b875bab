#!/bin/sh
# Prints the base specification for containerd's CRI plugin with Palisade's createRuntime hook in it:
#
#   base-runtime-spec.sh /usr/bin/palisade /run/palisade/hook.sock >/etc/containerd/palisade-base-spec.json
#
# and in containerd's config.toml (version 2):
#
#   [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
#     base_runtime_spec = "/etc/containerd/palisade-base-spec.json"
#
# Needs ctr (its default specification is the base) and jq. The hook fails closed: a pod's containers do not start while no node answers.
set -eu
palisade=${1:?usage: base-runtime-spec.sh PALISADE HOOK_SOCKET} socket=${2:?usage: base-runtime-spec.sh PALISADE HOOK_SOCKET}
ctr oci spec | jq --arg palisade "$palisade" --arg socket "$socket" \
	'.hooks.createRuntime = [{path: $palisade, args: ["palisade", "hook", "--socket", $socket], timeout: 15}]'
