#!/usr/bin/env bash
# Measures counterd beside its peers. Without flags: the seed's comparison,
# wrk -t4 -c100 -d30s on localhost. --help names the flags, bench/README.md
# says how it measures.
#
#   --install   get the peers too (gcc, Redis, nginx, PostgreSQL, aiohttp, perf)
#               from Debian's or Ubuntu's packages, then measure
set -euo pipefail
cd "$(dirname "$0")/.."

readonly bin=bench/.build
readonly policy=/usr/sbin/policy-rc.d

say() { echo "bench.sh: $*" >&2; }

die() {
	say "$@"
	exit 1
}

has() { command -v "$1" >/dev/null; }

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# get PACKAGE… with apt, as root or by sudo. Services stay off meanwhile: a
# database must not begin to run because somebody wanted to measure.
get() {
	has apt-get || return 1
	[ "$(id -u)" = 0 ] || has sudo || return 1
	say "installing $*"
	local ours='' failed=''
	if [ ! -e $policy ]; then
		ours=yes
		printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
		as_root chmod +x $policy
	fi
	as_root apt-get update -qq >&2 || true # an old list may still do
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "$@" >&2 || failed=yes
	[ -z "$ours" ] || as_root rm -f $policy
	[ -z "$failed" ]
}

need_wrk() {
	has wrk && return
	get wrk && has wrk && return
	die "wrk is missing. Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk; else https://github.com/wg/wrk"
}

# A distribution that lacks one of them may have the others; what is missing in
# the end is named in the report.
get_peers() {
	local module
	has gcc || get gcc libc6-dev || true
	has redis-server && has redis-benchmark || get redis-server || true
	has nginx || get nginx-light || true
	has pgbench || get postgresql || true
	has perf || get linux-perf || get linux-tools-generic || true
	for module in aiohttp asyncpg uvloop; do
		/usr/bin/python3 -c "import $module" 2>/dev/null || get "python3-$module" || true
	done
}

build() {
	has go || die "Go is missing: https://go.dev/doc/install"
	rm -rf "$bin" # nothing old is measured
	mkdir -p "$bin"
	go -C bench build -o .build/bench .
	# Without cgo, as releases are built.
	CGO_ENABLED=0 go build -trimpath -o "$bin/counterd" ./cmd/counterd || [ -z "$measures" ] || die "counterd does not build"
	CGO_ENABLED=0 go -C bench build -trimpath -o .build/ ./peers/... || say "some of the peers do not build"
	if has gcc; then
		gcc -O2 -Wall -pthread -o "$bin/epoll" bench/peers/epoll/epoll.c || say "the C floor does not build"
	fi
}

args=()
measures=yes
for arg in "$@"; do
	case $arg in
	--install | -install)
		get_peers
		continue
		;;
	--list | -list | --help | -help | -h | --compare | -compare | --render* | -render*) measures= ;;
	esac
	args+=("$arg")
done

[ -z "$measures" ] || need_wrk
build
# So many connections need as many descriptors on either side; root may have more.
ulimit -n 200000 2>/dev/null || ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
exec "$bin/bench" --root . --bin "$bin" ${args[@]+"${args[@]}"}
