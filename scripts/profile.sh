#!/usr/bin/env bash
# Says where the time of a durable hit goes: counterd on the first core, wrk with
# 100 connections on the second, perf on the first, by what each sample was in.
# Needs wrk and perf (Debian: linux-perf), and the right to profile the kernel.
#
#   scripts/profile.sh [STORE [SECONDS]]     STORE: file (default) or mem
set -euo pipefail
cd "$(dirname "$0")/.."

store=${1:-file}
seconds=${2:-10}
case $store in file | mem) ;; *) echo "profile.sh: STORE is file or mem" >&2; exit 2 ;; esac
for tool in wrk perf taskset curl; do
	command -v "$tool" >/dev/null || { echo "profile.sh: $tool is missing" >&2; exit 1; }
done

dir=$(mktemp -d -p .)
server=
trap '[[ -z $server ]] || kill $server 2>/dev/null; rm -rf "$dir"' EXIT
go build -o "$dir/counterd" ./cmd/counterd
url=mem:
[[ $store == mem ]] || url=file:$dir/counterd.db

taskset -c 0 "$dir/counterd" --listen=127.0.0.1:18080 --admin=127.0.0.1:18081 --store="$url" 2>"$dir/log" &
server=$!
until grep -q msg=listening "$dir/log"; do
	kill -0 $server || { cat "$dir/log" >&2; exit 1; }
	sleep 0.1
done

total() { curl -s "http://127.0.0.1:18081/metrics" | awk -v name="$1" '$1 == name {print $2}'; }
load() { taskset -c 1 wrk -t1 -c100 -d"$1" http://127.0.0.1:18080/; }

load 1s >/dev/null
hits=$(total counterd_hits_total)
commits=$(total counterd_commit_duration_seconds_count)
taskset -c 1 perf record -q -g -F 5000 -C 0 -o "$dir/data" -- sleep "$seconds" &
load "${seconds}s" >"$dir/wrk"
wait %2
hits=$(($(total counterd_hits_total) - hits))
((hits > 0)) || { echo "profile.sh: nothing was counted" >&2; exit 1; }
commits=$(($(total counterd_commit_duration_seconds_count) - commits))

echo "--store=$store: $((hits / seconds)) hits/s, $((commits / seconds)) commits/s"
# A sample belongs to the first of these that is in its call chain: the system
# call that it was in, or who ran.
perf script -i "$dir/data" -F comm,ip,sym 2>/dev/null | awk -v hits="$hits" -v seconds="$seconds" '
	function stage() {
		if (comm ~ /^swapper/) return "idle"
		if (comm ~ /^kworker/) return "disk: the kernel'\''s workers"
		if (chain ~ /io_submit|pwrite64|fdatasync|io_getevents/) return "disk: write and sync"
		if (comm !~ /^counterd/) return "others"
		if (chain ~ /eventfd_write|eventfd_read|futex/) return "waking loop and committer"
		if (chain ~ /nanosleep/) return "the runtime'\''s monitor"
		if (chain ~ /epoll/) return "epoll_wait"
		if (chain ~ /sock_write_iter|tcp_sendmsg/) return "socket: write"
		if (chain ~ /sock_read_iter|tcp_recvmsg|sys_recv|sys_read/) return "socket: read"
		if (chain ~ /entry_SYSCALL|do_syscall|asm_/) return "kernel, other"
		if (chain ~ /httpparse|wildcat/) return "counterd: parsing"
		if (chain ~ /runtime\.(schedule|findRunnable|mcall|park|gosched|mstart|exitsyscall|entersyscall|stealWork|netpoll)/) return "Go'\''s scheduler"
		return "counterd: all else"
	}
	/^[^ \t]/ { comm = $1; chain = ""; next }
	/^[ \t]*$/ { if (comm != "") { n[stage()]++; all++ }; comm = ""; next }
	{ chain = chain " " $2 }
	END {
		for (s in n) printf "%6.1f %%  %6.2f µs per hit  %s\n", 100 * n[s] / all, n[s] / all * seconds * 1e6 / hits, s
	}' | sort -rn
