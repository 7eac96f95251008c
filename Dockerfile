# counterd in a container: a static binary, nothing else, as an unprivileged
# user. Build arguments choose other base images, for instance ones that were
# made without a registry (deploy/offline-images.sh).
ARG GO_IMAGE=golang:1.26
ARG RUN_IMAGE=scratch

FROM ${GO_IMAGE} AS build
WORKDIR /src
# Modules first: they change rarely, so their layer is kept.
COPY go.mod go.sum ./
ARG GOPROXY
RUN go mod download
COPY . .
# What --version says: the context has no repository to tell.
ARG VERSION
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w -X main.stamp=$VERSION" -o /out/counterd ./cmd/counterd \
 && mkdir /out/data

FROM ${RUN_IMAGE}
# For a database that wants TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/counterd /counterd
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ARG VERSION
LABEL org.opencontainers.image.title="counterd" \
      org.opencontainers.image.description="Counts HTTP requests exactly and durably" \
      org.opencontainers.image.source="https://github.com/counterd/counterd" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
ENV COUNTERD_LISTEN=:8080
ENV COUNTERD_STORE=file:/data/counterd.db
# No VOLUME: a container that keeps its count elsewhere would leave an empty,
# nameless one behind. Mount a volume at /data (-v counterd:/data).
EXPOSE 8080
# The admin listener stays on the container's own loopback unless
# COUNTERD_ADMIN says otherwise; the check needs no more.
HEALTHCHECK --interval=5s --timeout=6s --start-period=10s --retries=3 CMD ["/counterd", "health"]
# SIGTERM, docker's default, is a clean stop. It takes up to COUNTERD_DRAIN_TIMEOUT,
# 10 s, and docker kills after 10 s: give it more (--stop-timeout=15).
ENTRYPOINT ["/counterd"]
