#!/usr/bin/env bash
# Measures counterd beside its peers. Without flags: the seed's comparison,
# wrk -t4 -c100 -d30s on localhost. --help names the flags, bench/README.md
# says how it measures.
#
#   --install   get the peers too (Redis, nginx, PostgreSQL, aiohttp, perf)
#               from Debian's or Ubuntu's packages, then measure
set -euo pipefail
cd "$(dirname "$0")/.."

readonly bin=bench/.build
readonly peers='gcc libc6-dev redis-server nginx-light postgresql postgresql-contrib
	python3-aiohttp python3-asyncpg python3-uvloop linux-perf'

say() { echo "bench.sh: $*" >&2; }

die() {
	say "$@"
	exit 1
}

# install PACKAGE… with apt, as root or by sudo. Services stay off: a database
# that nobody asked for must not begin to run because of a benchmark.
install() {
	local as_root=()
	command -v apt-get >/dev/null || return 1
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || return 1
		as_root=(sudo)
	fi
	say "installing $*"
	"${as_root[@]}" apt-get update -qq >&2
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
		apt-get install -y -qq --no-install-recommends "$@" >&2
}

need_wrk() {
	command -v wrk >/dev/null && return
	install wrk && command -v wrk >/dev/null && return
	die "wrk is missing. Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk; else https://github.com/wg/wrk"
}

install_peers() {
	local package
	# One by one: a distribution that lacks one has the others.
	for package in $peers; do
		dpkg -s "$package" >/dev/null 2>&1 || install "$package" || say "no $package: its contender will be named as not measured"
	done
}

build() {
	command -v go >/dev/null || die "Go is missing: https://go.dev/doc/install"
	mkdir -p "$bin"
	rm -f "$bin"/{bench,counterd,fasthttp,epoll}
	go build -o "$bin/bench" ./bench
	# Without cgo: the same file runs in an empty container.
	CGO_ENABLED=0 go build -trimpath -o "$bin/counterd" ./cmd/counterd || say "counterd does not build"
	CGO_ENABLED=0 go build -trimpath -o "$bin/fasthttp" ./bench/peers/fasthttp || say "fasthttp does not build"
	if command -v gcc >/dev/null; then
		gcc -O2 -Wall -pthread -o "$bin/epoll" bench/peers/epoll/epoll.c || say "the C floor does not build"
	fi
}

args=()
measures=yes
for arg in "$@"; do
	case $arg in
	--install | -install)
		install_peers
		continue
		;;
	--list | -list | --help | -help | -h | --compare | -compare | --render* | -render*) measures= ;;
	esac
	args+=("$arg")
done

[ -z "$measures" ] || need_wrk
build
# 10,000 connections need as many descriptors on either side.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
exec "$bin/bench" --root . --bin "$bin" "${args[@]}"
