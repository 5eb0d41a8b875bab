# Packages of other Debian suites and of arm64, without touching the machine's own lists. To be sourced by a script that runs for itself.

state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# ask TOOL WORDS...: apt with a state of its own.
ask() {
    local tool=$1
    shift
    "$tool" -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$state/lists" \
        -o Dir::Cache="$state/cache" -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 \
        -o APT::Sandbox::User=root "$@"
}

# read_lists SUITE: the archive that this machine uses for its own main suite serves the others as well.
read_lists() {
    local suite=$1 archive
    archive=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "main" && $1 !~ /security/ && !found++ { print $1 }')
    [ -n "$archive" ] || die "no Debian archive is set up"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    printf 'deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$archive" "$suite" >"$state/sources.list"
    ask apt-get update -qq >&2 || die "the package lists of $suite cannot be read"
}
