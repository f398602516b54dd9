# The builder runs on the machine's own platform and cross-compiles: this needs BuildKit, or podman. make image builds the
# same without a container engine.
FROM --platform=$BUILDPLATFORM golang:1.26 AS builder
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=v0.0.0-dev
ARG REVISION=unknown

WORKDIR /workspace
# Modules first, so that they are downloaded again only when their versions change.
COPY go.mod go.sum ./
RUN go mod download

# What is needed of these directories, see .dockerignore.
COPY api/ api/
COPY auditstore/ auditstore/
COPY cmd/ cmd/
COPY internal/ internal/
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false \
  -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION}" -o manager ./cmd/manager

FROM gcr.io/distroless/static:nonroot
ARG VERSION=v0.0.0-dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="auditstream-operator" \
  org.opencontainers.image.description="Audit streams on NATS JetStream as a Kubernetes resource" \
  org.opencontainers.image.source="https://github.com/osapi-io/auditstream-operator" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.created="${CREATED}"
WORKDIR /
COPY --from=builder /workspace/manager .
USER 65532:65532

ENTRYPOINT ["/manager"]
