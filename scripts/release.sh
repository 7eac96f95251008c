#!/usr/bin/env bash
# release.sh [DIR] builds what is released into DIR (dist): static binaries for
# five platforms, shell completions, man pages, and SHA256SUMS over all of them.
#
# The same commit and Go version give the same bytes, on every machine and in
# every directory. RELEASE_TARGETS chooses other platforms than the five.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=${1:-dist}
targets=${RELEASE_TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 freebsd/amd64}

# Nothing of the builder's environment may change the result.
unset GOFLAGS GOAMD64 GOARM64 GOEXPERIMENT GODEBUG
export CGO_ENABLED=0 GOENV=off LC_ALL=C TZ=UTC
# The man page's date is the commit's.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

if [[ -n $(ls -A "$dir" 2>/dev/null) && ! -e $dir/SHA256SUMS ]]; then
  echo "release.sh: $dir holds something else than a release" >&2
  exit 1
fi
rm -rf "$dir"
mkdir -p "$dir/completions" "$dir/man"
for target in $targets; do
  binary=$dir/counterd-${target%/*}-${target#*/}
  GOOS=${target%/*} GOARCH=${target#*/} go build -trimpath -ldflags='-s -w' -o "$binary" ./cmd/counterd
  echo "$binary"
done
go run ./cmd/counterd completion bash >"$dir/completions/counterd.bash"
go run ./cmd/counterd completion zsh >"$dir/completions/_counterd"
go run ./cmd/counterd completion fish >"$dir/completions/counterd.fish"
go run -tags=man ./cmd/counterd "$dir/man"

sum=(sha256sum)
command -v sha256sum >/dev/null || sum=(shasum -a 256)
cd "$dir"
find . -type f ! -name SHA256SUMS | sed 's|^\./||' | sort | xargs "${sum[@]}" >SHA256SUMS
cat SHA256SUMS
