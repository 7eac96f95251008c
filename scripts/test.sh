#!/usr/bin/env bash
# Gets what the tests need and runs all of them. Ends with exit code 0 if all is
# well, otherwise at the first step that fails. Debian packages are installed as
# root or by sudo; elsewhere, install what it names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s (%ds)\n' "$*" "$SECONDS"; }

has() { command -v "$1" >/dev/null; }

# need COMMAND PACKAGE…: notes the Debian packages of a command that is missing.
missing=()
need() {
  local found
  for found in "$(command -v "$1" || true)" /usr/lib/postgresql/*/bin/"$1"; do
    [[ -x $found ]] && return
  done
  shift
  missing+=("$@")
}

step "tools"
has go || { echo "Go is missing: https://go.dev/doc/install" >&2; exit 1; }
need gcc gcc libc6-dev   # the race detector
need wrk wrk             # load
need initdb postgresql   # the shared store
need pgbouncer pgbouncer # the shared store behind a pooler
need strace strace       # a disk that fails
need curl curl           # the commands in the manual
has google-chrome || has chromium-browser || need chromium chromium # the live page
[[ $(uname) != Linux ]] || need systemd-analyze systemd             # the units
if ((${#missing[@]})); then
  root=()
  ((EUID == 0)) || root=(sudo)
  if ! has apt-get || ! has "${root[0]:-apt-get}"; then
    echo "please install: ${missing[*]}" >&2
    exit 1
  fi
  # The tests start databases of their own; Debian's stay off.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod +x "$policy"
  fi
  "${root[@]}" apt-get update -qq </dev/null
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
fi
go mod download

step "gofmt"
unformatted=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
[[ -z $unformatted ]] || { echo "not formatted: $unformatted" >&2; exit 1; }

step "scripts"
git ls-files -z '*.sh' .ci/run | xargs -0 -n1 bash -n

step "go vet"
go vet ./...

step "staticcheck"
go tool -modfile=scripts/tools/go.mod staticcheck ./...

# CGO would need a cross compiler, and no platform of ours needs it.
step "cross builds"
for target in darwin/amd64 darwin/arm64 freebsd/amd64 linux/arm64 linux/386; do
  echo "$target"
  GOOS=${target%/*} GOARCH=${target#*/} CGO_ENABLED=0 go build ./...
done

step "go test -race"
go test -race -timeout=12m ./...

step "fuzzing"
mapfile -t targets < <(go test -list '^Fuzz' ./httpparse | grep '^Fuzz')
each=$(((20 + ${#targets[@]} - 1) / ${#targets[@]}))
for target in "${targets[@]}"; do
  go test -run='^$' -fuzz="^$target\$" -fuzztime="${each}s" -fuzzminimizetime=10x ./httpparse
done

step "all is well"
