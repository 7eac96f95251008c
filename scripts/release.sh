#!/usr/bin/env bash
# release.sh [DIR] builds what is released into DIR (dist): for each platform an
# archive with the static binary, its licences, documents, completions, man
# pages and units, and a bill of materials (CycloneDX); for Linux also a .deb and
# an .rpm; SHA256SUMS over all of them.
#
# The same commit and Go version give the same bytes, on every machine and in
# every directory. VERSION names the release, by default the last tag;
# RELEASE_TARGETS chooses other platforms than the five; RELEASE_PACKAGES=no
# leaves it at the archives. Needs GNU tar and coreutils.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=${1:-dist}
targets=${RELEASE_TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 freebsd/amd64}
version=${VERSION:-$(git describe --tags --match 'v*' 2>/dev/null || echo v0.0.0)}
version=${version#v}
version=$(sed -E 's/-([0-9]+)-(g[0-9a-f]+)$/+\1.\2/' <<<"$version") # commits after a tag sort behind it

# Nothing of the builder's environment may change the result.
unset GOFLAGS GOAMD64 GOARM64 GOEXPERIMENT GODEBUG
export CGO_ENABLED=0 GOENV=off LC_ALL=C TZ=UTC
umask 022
# Every date is the commit's.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

if [[ -n $(ls -A "$dir" 2>/dev/null) && ! -e $dir/SHA256SUMS ]]; then
  echo "release.sh: $dir holds something else than a release" >&2
  exit 1
fi
rm -rf "$dir"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

nfpm_config=$PWD/deploy/package/nfpm.yaml

packaged=
if [[ ${RELEASE_PACKAGES:-yes} == yes ]]; then
  packaged=yes
  nfpm=$(go tool -modfile=scripts/tools/go.mod -n nfpm)
  sbom=$(go tool -modfile=scripts/tools/go.mod -n cyclonedx-gomod)
fi

# licences prints the licence of every module in the binary.
licences() {
  go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/counterd | sort -u |
    while read -r module version source; do
      local file found=
      for file in "$source"/LICEN[CS]E* "$source"/COPYING* "$source"/NOTICE*; do
        [[ -f $file ]] || continue
        found=yes
        printf '==== %s %s: %s\n\n' "$module" "$version" "${file##*/}"
        cat "$file"
        echo
      done
      [[ $found ]] || { echo "release.sh: $module has no licence" >&2; exit 1; }
    done
}

# What is the same on every platform.
common=$work/common
mkdir -p "$common"/{completions,man,docs}
cp LICENSE README.md CHANGELOG.md "$common"
cp docs/*.md "$common/docs"
licences >"$common/LICENSES-OF-LIBRARIES"
go build -trimpath -o "$work/here" ./cmd/counterd
"$work/here" completion bash >"$common/completions/counterd.bash"
"$work/here" completion zsh >"$common/completions/_counterd"
"$work/here" completion fish >"$common/completions/counterd.fish"
go run -trimpath -tags=man ./cmd/counterd "$common/man"

# archive OS/ARCH lays out what is released for a platform and packs it.
archive() {
  local name=counterd-$version-${1%/*}-${1#*/} tree
  tree=$work/$name
  cp -R "$common" "$tree"
  GOOS=${1%/*} GOARCH=${1#*/} go build -trimpath -ldflags="-s -w -X main.stamp=v$version" -o "$tree/counterd" ./cmd/counterd
  [[ $1 != linux/* ]] || cp -R deploy/systemd "$tree"
  cp -R deploy/prometheus deploy/grafana "$tree"
  chmod -R u=rwX,go=rX "$tree"
  tar -C "$work" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" |
    gzip -9n >"$dir/$name.tar.gz"
  echo "$name"
}

# bill OS/ARCH lists what is in the binary.
bill() {
  local name=counterd-$version-${1%/*}-${1#*/}
  "$sbom" bin -json -std -noserial -notimestamp -version "v$version" -output "$dir/$name.cdx.json" \
    "$work/$name/counterd" 2>"$work/log" || { cat "$work/log" >&2; return 1; }
}

# packages ARCH makes a .deb and an .rpm of the archive's files.
packages() {
  local tree=$work/counterd-$version-linux-$1 packager
  cp -R deploy/package "$tree"
  mv "$tree/CHANGELOG.md" "$tree/changelog"
  printf 'counterd (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$version" \
    "$(sed -n 's/^maintainer: //p' "$nfpm_config")" "$(date -ud "@$SOURCE_DATE_EPOCH" -R)" >"$tree/changelog.Debian"
  gzip -9n "$tree"/changelog "$tree"/changelog.Debian "$tree"/man/*.1
  for packager in deb rpm; do
    (cd "$tree" && ARCH=$1 VERSION=$version "$nfpm" package -f "$nfpm_config" -p $packager -t "$dir") >/dev/null
  done
}

for target in $targets; do
  archive "$target"
  [[ $packaged ]] || continue
  bill "$target"
  [[ $target != linux/* ]] || packages "${target#*/}"
done

cd "$work"
find "$dir" -type f -printf '%P\n' | sort | (cd "$dir" && xargs sha256sum) >SHA256SUMS
mv SHA256SUMS "$dir"
cat "$dir/SHA256SUMS"
