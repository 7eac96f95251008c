#!/usr/bin/env bash
# Gets what the tests need and runs them. Exit code 0 means that all is
# well; else it shows the first step that failed, and how to run it alone. At the
# end it lists what could not be tested here.
#
#   scripts/test.sh            before a commit, and what CI runs
#   scripts/test.sh --quick    while you work: no process, database or browser is started
#   scripts/test.sh --full     before a release: also every platform, the packages, the images
#   scripts/test.sh STEP…      single steps, by the names that it prints
#
# Debian packages are installed as root or by sudo; elsewhere, install what it
# names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Two lanes run beside each other: one mostly compiles, the other mostly waits,
# for disks, databases and clocks. The first yields to the second.
mode=${1:-}
case $mode in
--quick) compiling=(format vet plain staticcheck) testing=(quick) ;;
--full) compiling=(format vet staticcheck plain cross-all kubernetes release lab fuzz) testing=(race images docker) ;;
"") compiling=(format vet staticcheck plain cross lab fuzz) testing=(race) ;;
-*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
*) compiling=("$@") testing=() ;;
esac

modules=(.)
[[ ! -e bench/go.mod ]] || modules+=(bench)

# Without the paths of this checkout, as the release is built: then another checkout
# finds in the cache what one has compiled.
GOFLAGS="$(go env GOFLAGS) -trimpath"
export GOFLAGS

# With what vet compiles counterd is built too.
released=(env CGO_ENABLED=0)

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

step_tools() {
  has go || { echo "Go is missing: https://go.dev/doc/install" >&2; return 1; }
  need gcc gcc libc6-dev     # the race detector
  need shellcheck shellcheck # the scripts
  if [[ $mode != --quick ]]; then
    need wrk wrk             # load
    need initdb postgresql   # the shared store
    need pgbouncer pgbouncer # the shared store behind a pooler
    need strace strace       # a disk that fails
    need curl curl           # the commands in the manual
    has google-chrome || has chromium-browser || need chromium chromium # the live page
    [[ $(uname) != Linux ]] || need systemd-analyze systemd             # the units
  fi
  if [[ $mode == --full ]]; then
    need lintian lintian # the packages
    need debootstrap debootstrap
    need rpm rpm
    need man man-db
  fi
  ((${#missing[@]} == 0)) || get
  local m
  for m in "${modules[@]}" scripts/tools; do go -C "$m" mod download; done
}

# get installs the missing Debian packages. The tests start databases of their
# own; Debian's stay off.
root=() policy=/usr/sbin/policy-rc.d ours=
get() {
  ((EUID == 0)) || root=(sudo)
  if ! has apt-get || ! has "${root[0]:-apt-get}"; then
    echo "please install: ${missing[*]}" >&2
    return 1
  fi
  if [[ ! -e $policy ]]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod +x "$policy"
  fi
  echo "installing ${missing[*]}"
  "${root[@]}" apt-get update -qq </dev/null
  local failed=
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null || failed=yes
  allow_services
  [[ -z $failed ]]
}

# allow_services takes back what get forbids, however the script ends.
allow_services() {
  [[ -z $ours ]] || "${root[@]}" rm -f "$policy"
  ours=
}

# tool NAME is the path of one of scripts/tools, built where needed.
tool() { "${released[@]}" go tool -modfile=scripts/tools/go.mod -n "$1"; }

step_format() {
  local unformatted
  unformatted=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
  [[ -z $unformatted ]] || { echo "not formatted: $unformatted"; return 1; }
  git ls-files -z '*.sh' .ci/run 'deploy/package/deb/*' | xargs -0 shellcheck --severity=warning --exclude=SC1007
  git ls-files -z 'deploy/package/rpm/*' | xargs -0 shellcheck --severity=warning --shell=sh
}

step_vet() {
  local m
  for m in "${modules[@]}"; do "${released[@]}" go -C "$m" vet ./...; done
}

step_staticcheck() {
  local m staticcheck
  staticcheck=$(tool staticcheck)
  for m in "${modules[@]}"; do (cd "$m" && "${released[@]}" "$staticcheck" ./...); done
}

# What differs: a system with kqueue, and one of 32 bits. This compiles, without
# optimising; cross-all does, and links.
step_cross() {
  local target
  for target in freebsd/amd64 linux/386; do
    echo "$target"
    GOOS=${target%/*} GOARCH=${target#*/} CGO_ENABLED=0 go list -export -gcflags='all=-N -l' ./... >/dev/null
  done
}

step_cross-all() {
  local target m
  for target in darwin/amd64 darwin/arm64 freebsd/amd64 linux/arm64 linux/386; do
    for m in "${modules[@]}"; do
      [[ $m != bench || $target != linux/386 ]] || continue # netpoll does not compile there
      echo "$target $m"
      GOOS=${target%/*} GOARCH=${target#*/} CGO_ENABLED=0 go -C "$m" build ./...
    done
  done
  GOOS=freebsd CGO_ENABLED=0 go vet ./... # the tests compile there too
}

# tests DIR ARGUMENT…: go test, each time, also if nothing has changed: much of what
# the tests test they don't import.
tests() {
  local gotestsum
  gotestsum=$(tool gotestsum)
  (cd "$1" && "$gotestsum" --format=pkgname --format-icons=text --no-color -- -vet=off -count=1 -p=2 -timeout=12m "${@:2}")
}

# The longest first, or they would end alone. What needs Docker is a step of its
# own.
step_race() {
  local -x GORACE=atexit_sleep_ms=0 # else the end of each package takes a second
  local first=(./cmd/counterd ./counter/pgstore ./internal/blackbox ./internal/crashtest) all rest=() p
  mapfile -t all < <(go list -f '.{{slice .ImportPath (len .Module.Path)}}' ./...)
  for p in "${all[@]}"; do
    [[ $p == ./deploy || " ${first[*]} " == *" $p "* ]] || rest+=("$p")
  done
  tests . -race "${first[@]}" "${rest[@]}"
}

step_lab() { [[ ! -e bench/go.mod ]] || tests bench -race ./...; }

step_quick() {
  tests . -race -short ./admin ./counter ./counter/filestore ./engine ./httpparse/... ./internal/conformance
}

# What the race detector spares, without it.
step_plain() {
  local files dirs names
  mapfile -t files < <(git grep -l 'race\.Spare(t)' -- '*_test.go')
  mapfile -t dirs < <(printf './%s\n' "${files[@]%/*}" | sort -u)
  names=$(awk '/^func Test/ { sub(/\(.*/, "", $2); name = $2 } /race\.Spare\(t\)/ { print name }' "${files[@]}" | sort -u | paste -sd '|')
  [[ $mode != --quick ]] || set -- -short
  tests . "$@" -run "^($names)\$" "${dirs[@]}"
}

step_docker() { tests . -race ./deploy; }

# What Docker builds upon, where no registry gives it.
step_images() {
  if ((EUID == 0)) && has debootstrap && docker info >/dev/null 2>&1; then
    deploy/offline-images.sh
  else
    echo "no images are made: that takes root, debootstrap and a Docker engine"
  fi
}

# As many inputs as take some seconds: Go takes the end of a given time for a failure
# now and then.
step_fuzz() {
  local targets target
  mapfile -t targets < <(grep -oh '^func Fuzz[A-Za-z0-9_]*' httpparse/*_test.go | sed 's/^func //')
  for target in "${targets[@]}"; do
    go test -vet=off -run='^$' -fuzz="^$target\$" -fuzztime=30000x -fuzzminimizetime=10x ./httpparse
  done
}

# The manifests against Kubernetes' own types.
step_kubernetes() { go -C deploy/kubernetes test -count=1 ./...; }

step_release() { scripts/release-test.sh; }

logs=$(mktemp -d)
lanes=()
finish() {
  local lane
  for lane in "${lanes[@]}"; do kill -- "-$lane" 2>/dev/null || true; done
  rm -rf "$logs"
  allow_services
}
trap finish EXIT
trap 'exit 130' INT TERM

# lane STEP… runs one step after the other, up to the first that fails.
lane() {
  local step began status TIMEFORMAT='%0U + %0S'
  for step in "$@"; do
    began=$SECONDS
    : >"$logs/$step.log"
    set +e
    { time { (set -e; "step_$step") >"$logs/$step.log" 2>&1; }; } 2>"$logs/$step.cpu"
    status=$?
    echo "$status $((SECONDS - began)) $(($(<"$logs/$step.cpu")))" >"$logs/$step.new"
    mv "$logs/$step.new" "$logs/$step.done"
    ((status == 0)) || return 0
  done
}

# failed STEP shows what went wrong. Of tests that is the summary at the end.
failed() {
  printf '\n'
  if grep -q '^=== Failed' "$logs/$1.log"; then
    sed -n '/^=== Failed/,$p' "$logs/$1.log" | tail -n 300
  else
    tail -n 100 "$logs/$1.log"
  fi
  printf '\nFAILED: %s, after %d s. Alone: scripts/test.sh %s\n' "$1" "$SECONDS" "$1"
  local race=-race
  [[ $1 != plain ]] || race=
  sed -n 's/^=== FAIL: \([^ ]*\) \(Test[^ /]*\) .*/        or: go test '$race' -run "^\2$" .\/\1/p' "$logs/$1.log" | sort -u
  exit 1
}

# progress says in one line which steps run and what each printed last.
progress() {
  local step line="[$SECONDS s]" ran last
  for step in "${steps[@]}"; do
    [[ -e $logs/$step.log && ! -e $logs/$step.done ]] || continue
    ran=$(grep -cE '^(PASS|FAIL|EMPTY) ' "$logs/$step.log") || ran=
    last=$(tail -n 1 "$logs/$step.log" | cut -c 1-60)
    line+="  $step: ${ran:+$ran packages, }${last:-at work}"
  done
  echo "$line"
}

# watch reports until every step has ended.
watch() {
  local step left=("${steps[@]}") still status took cpu quiet=$SECONDS
  while ((${#left[@]})); do
    sleep 0.2
    still=()
    for step in "${left[@]}"; do
      if [[ ! -e $logs/$step.done ]]; then
        still+=("$step")
        continue
      fi
      read -r status took cpu <"$logs/$step.done"
      ((status == 0)) || failed "$step"
      printf '[%d s]  %s: ok, %d s, %d of the CPU; %d of %d steps are done\n' "$SECONDS" "$step" "$took" "$cpu" "$((${#steps[@]} - ${#left[@]} + 1))" "${#steps[@]}"
      quiet=$SECONDS
    done
    left=("${still[@]}")
    if ((SECONDS - quiet >= 10)); then
      progress
      quiet=$SECONDS
    fi
  done
}

# untested lists what was skipped, with the reasons that the tests gave.
untested() {
  awk '
    /^=== SKIP: / { test = $3 " " $4; next }
    /spared by the race detector/ { test = "" } # a step of its own
    test != "" { sub(/^ *[a-z_0-9]+\.go:[0-9]+: /, ""); print "  " test ": " $0; test = "" }
  ' "$logs"/*.log
  grep -hE '^(no images are made|the .deb is not installed):' "$logs"/*.log | sed 's/^/  /' || true
  case $mode in
  --quick) echo "  programs, databases, browsers, races between processes, other platforms, fuzzing: scripts/test.sh" ;;
  "") echo "  darwin, arm64 and linking for other platforms; .deb and .rpm; Docker images, compose files; Kubernetes manifests: scripts/test.sh --full" ;;
  esac
}

echo "== tools"
step_tools
steps=("${compiling[@]}" "${testing[@]}")
for step in "${steps[@]}"; do
  declare -F "step_$step" >/dev/null || { echo "test.sh: there is no step $step" >&2; exit 2; }
done
echo "== ${steps[*]}"
set -m # a lane is a process group
lane "${testing[@]}" &
lanes+=($!)
(renice -n 10 "$BASHPID" >/dev/null && lane "${compiling[@]}") &
lanes+=($!)
set +m
watch

skipped=$(untested)
printf '\n== not tested:\n%s\n' "${skipped:-  nothing of these steps}"
awk '/spared by the race detector/ { n--; skipped-- }
  /^DONE / { n += $2; for (i = 3; i <= NF; i++) if ($i == "skipped") skipped += $(i - 1) }
  END { printf "\n== all is well\n%d passed, 0 failed, %d skipped\n", n - skipped, skipped }' "$logs"/*.log
echo "in $SECONDS s"
