#!/usr/bin/env bash
# release-test.sh releases twice, from two folders, and compares every byte. Then
# it tries the packages: lintian; the .deb installed in a clean Debian root, its
# units checked there, updated, and removed without a trace but the data; the
# .rpm unpacked beside it. Needs lintian, rpm and man; root and debootstrap for
# the clean root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export LC_ALL=C
work=$(mktemp -d)
root=$work/root
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf "$work"' EXIT

die() { echo "release-test.sh: $*" >&2; exit 1; }

echo "releasing twice"
folders=("$work/a" "$work/a-longer/path")
for folder in "${folders[@]}"; do
  mkdir -p "$folder"
  git ls-files -z | xargs -0 cp --parents -t "$folder"
done
for folder in "${folders[@]}"; do
  (cd "$folder" && VERSION=v1.2.3 SOURCE_DATE_EPOCH=1700000000 RELEASE_TARGETS=linux/amd64 scripts/release.sh >/dev/null)
done
dist=$work/a/dist
diff -r "$dist" "$work/a-longer/path/dist" || die "two builds differ"
(cd "$dist" && sha256sum --check --quiet SHA256SUMS)
deb=$dist/counterd_1.2.3-1_amd64.deb

echo "lintian"
lintian --allow-root --fail-on error,warning "$dist"/*.deb

echo "manual pages"
tar -xzf "$dist/counterd-1.2.3-linux-amd64.tar.gz" -C "$work"
for page in "$work"/counterd-1.2.3-linux-amd64/man/*.1; do
  MANWIDTH=80 man --warnings -l "$page" 2>&1 >/dev/null | tee "$work/warnings"
  [[ ! -s $work/warnings ]] || die "man finds fault with $page"
done

echo "rpm"
rpm -qp --quiet "$dist/counterd-1.2.3-1.x86_64.rpm" 2>/dev/null
files() { grep -vE '/(lintian|licenses|zsh)/|/changelog.Debian.gz$|/copyright$|/$' | sort; }
diff <(rpm -qlp "$dist/counterd-1.2.3-1.x86_64.rpm" 2>/dev/null | files) \
  <(dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's/^\.//' | files) || die ".deb and .rpm have different files"

mkdir "$work/proc"
if ! command -v debootstrap >/dev/null || ! mount -t proc proc "$work/proc" 2>/dev/null; then
  echo "the .deb is not installed: that takes debootstrap, and root that may mount"
  exit 0
fi
umount "$work/proc"

echo "a clean root"
suite=${SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")} # as here
# shellcheck disable=SC2016 # apt's own variables
mirror=${MIRROR:-$(apt-get indextargets --format '$(CREATED_BY) $(REPO_URI) $(RELEASE)' |
  awk -v s="$suite" '$1 == "Packages" && $3 == s { print $2; exit }')}
debootstrap --variant=minbase --include=systemd "$suite" "$root" "$mirror" >"$work/log" 2>&1 || { tail "$work/log"; exit 1; }
mount -t proc proc "$root/proc"

inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
# Names and links, but for what dpkg writes about every package, and /run, which
# is memory.
traces() { (cd "$root" && find . -xdev -path ./proc -prune -o -path ./run -prune -o -path ./tmp -prune -o -path ./var/lib/dpkg -prune -o ! -path ./var/log/dpkg.log -printf '%p %l\n' | sort); }

traces >"$work/before"
cp "$deb" "$root/tmp/counterd.deb"
inside dpkg -i /tmp/counterd.deb
[[ $(inside counterd version) == "counterd v1.2.3, "* ]] || die "it is another version"
for unit in sockets.target.wants/counterd.socket multi-user.target.wants/counterd.service; do
  [[ -L $root/etc/systemd/system/$unit ]] || die "$unit is not enabled"
done
inside systemd-analyze verify --man=no counterd.service counterd.socket 2>&1 | tee "$work/verify"
[[ ! -s $work/verify ]] || die "systemd finds fault with the units"
inside systemd-analyze security --offline=true --threshold=15 --no-pager /usr/lib/systemd/system/counterd.service | tail -n 1

echo "an update, and removal"
mkdir "$root/var/lib/counterd"
inside counterd store set file:/var/lib/counterd/counterd.db 41
echo COUNTERD_LOG_FORMAT=json >>"$root/etc/default/counterd"
inside dpkg -i /tmp/counterd.deb
grep -q '^COUNTERD_LOG_FORMAT' "$root/etc/default/counterd" || die "an update forgets the settings"
cp "$root/usr/bin/counterd" "$work/counterd"
inside dpkg --purge counterd
[[ $("$work/counterd" store show "file:$root/var/lib/counterd/counterd.db") == 41 ]] || die "the count is gone"
changed=$(traces | comm -3 "$work/before" - | awk '{print $1}')
[[ $changed == "./var/lib/counterd"$'\n'"./var/lib/counterd/counterd.db" ]] || die "it leaves other than the data: $changed"
echo "removed without a trace but the data"
