# The builder runs on the machine's own platform and cross-compiles: this needs BuildKit, or podman.
FROM --platform=$BUILDPLATFORM golang:1.26 AS builder
ARG TARGETOS
ARG TARGETARCH

WORKDIR /workspace
# Modules first, so that they are downloaded again only when their versions change.
COPY go.mod go.sum ./
RUN go mod download

# What is needed of these directories, see .dockerignore.
COPY api/ api/
COPY auditstore/ auditstore/
COPY cmd/ cmd/
COPY internal/ internal/
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} go build -trimpath -ldflags "-s -w" -o manager ./cmd/manager

FROM gcr.io/distroless/static:nonroot
WORKDIR /
COPY --from=builder /workspace/manager .
USER 65532:65532

ENTRYPOINT ["/manager"]
