#!/bin/sh
# Makes the base images for Dockerfile and compose.yaml without an image
# registry: Debian roots by debootstrap, the Go of this machine, Debian's
# PostgreSQL and HAProxy. Needs root, debootstrap, a Debian mirror (the one apt
# uses here, or MIRROR), Docker and Go.
#
#   deploy/offline-images.sh          make what is missing
#   deploy/offline-images.sh --force  make all of it anew
#
# It tags counterd-offline/{debian,golang,postgres,haproxy}, and says at the end
# how to use them.
set -eu
cd "$(dirname "$0")/.."

force=${1:-}
prefix=counterd-offline
suite=${SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")} # as here
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() { echo "offline-images: $*" >&2; exit 1; }
have() { [ "$force" != --force ] && docker image inspect "$prefix/$1" >/dev/null 2>&1; }

compose="docker compose"
docker compose version >/dev/null 2>&1 || compose=docker-compose

[ "$(id -u)" = 0 ] || die "debootstrap needs root"
for tool in debootstrap docker go; do
    command -v "$tool" >/dev/null || die "$tool is not installed"
done
docker info >/dev/null 2>&1 || die "the Docker engine does not answer"

# The first mirror that apt here uses for this suite.
# shellcheck disable=SC2016 # apt's own variables
mirror=${MIRROR:-$(apt-get indextargets --format '$(CREATED_BY) $(REPO_URI) $(RELEASE)' |
    awk -v s="$suite" '$1 == "Packages" && $3 == s { print $2; exit }')}
[ -n "$mirror" ] || die "no mirror for $suite in apt's sources; set MIRROR"

# bootstrap NAME PACKAGES: a minimal Debian root with packages, as an image.
bootstrap() {
    echo "offline-images: $1 (${2:-no further packages})"
    debootstrap --variant=minbase ${2:+--include="$2"} "$suite" "$work/$1" "$mirror" >"$work/$1.log" 2>&1 || {
        tail -20 "$work/$1.log" >&2
        die "debootstrap of $1 failed"
    }
    rm -rf "$work/$1"/var/cache/apt/archives/*.deb "$work/$1"/var/lib/apt/lists/*
    tar -C "$work/$1" --one-file-system -c . | docker import - "$prefix/$1" >/dev/null
    rm -rf "${work:?}/$1"
}

have debian || bootstrap debian ca-certificates

if ! have golang; then
    echo "offline-images: golang (Go and its module cache of this machine)"
    go mod download
    mkdir -p "$work/go/mod/cache"
    cp -a "$(go env GOROOT)" "$work/go/root"
    cp -a "$(go env GOMODCACHE)/cache/download" "$work/go/mod/cache/download"
    cat >"$work/go/Dockerfile" <<END
FROM $prefix/debian
COPY root /usr/local/go
COPY mod /go/pkg/mod
ENV PATH=/usr/local/go/bin:/usr/bin:/bin GOPATH=/go GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOPROXY=off
END
    docker build -q -t "$prefix/golang" "$work/go" >/dev/null
    rm -rf "$work/go"
fi

if ! have haproxy; then
    bootstrap haproxy-root haproxy
    mkdir "$work/haproxy"
    cat >"$work/haproxy/Dockerfile" <<END
FROM $prefix/haproxy-root
USER haproxy
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
END
    docker build -q -t "$prefix/haproxy" "$work/haproxy" >/dev/null
fi

# As much of the official image's behaviour as compose.yaml needs: a first
# start makes the cluster and the user, PGDATA is a volume.
if ! have postgres; then
    bootstrap postgres-root postgresql
    mkdir "$work/postgres"
    cat >"$work/postgres/entrypoint" <<'END'
#!/bin/sh
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin)
export PATH="$bin:$PATH"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    pw=$(mktemp)
    printf '%s' "$POSTGRES_PASSWORD" >"$pw"
    initdb --username "${POSTGRES_USER:-postgres}" --pwfile "$pw" --auth-host scram-sha-256 --auth-local trust --encoding UTF8 --locale C.UTF-8
    rm "$pw"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
        echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA" postgres >/dev/null
    fi
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/tmp
END
    chmod +x "$work/postgres/entrypoint"
    cat >"$work/postgres/Dockerfile" <<END
FROM $prefix/postgres-root
COPY entrypoint /usr/local/bin/entrypoint
ENV PGDATA=/var/lib/postgresql/data PGHOST=/tmp
RUN ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ 2>/dev/null; mkdir -p "\$PGDATA" && chown postgres "\$PGDATA" && chmod 700 "\$PGDATA"
VOLUME /var/lib/postgresql/data
USER postgres
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["postgres"]
END
    docker build -q -t "$prefix/postgres" "$work/postgres" >/dev/null
fi

cat <<END
The images are there. To build on them:

  export GO_IMAGE=$prefix/golang POSTGRES_IMAGE=$prefix/postgres HAPROXY_IMAGE=$prefix/haproxy
  docker build --build-arg GO_IMAGE -t counterd .              # counterd alone
  $compose up --build                                    # two replicas, PostgreSQL, HAProxy
  $compose -f deploy/docker/embedded.yaml up --build     # one with its own store
  $compose down                                          # -v forgets the count, too
END
