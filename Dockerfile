# The image of a release, built from source: the binary and what it needs, for container/action.yml on a commit that
# has no release, and for those who build their own. Releases are built by `go run ./release`, without Docker.
#
#   docker build -t oidc-dbt .
#
# or, to bring it into an image that has dbt: COPY --from=oidc-dbt /oidc-dbt /usr/local/bin/

# A tag can be moved: whoever publishes an image passes GO_IMAGE with the digest that was checked
# (--build-arg GO_IMAGE=golang:1.26.8-alpine@sha256:…). The version is that of go.mod.
ARG GO_IMAGE=golang:1.26.8-alpine

FROM ${GO_IMAGE} AS build
# The same build as a release: nothing of the machine's Go configuration, no other toolchain.
ENV GOENV=off GOFLAGS=-mod=readonly GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY main.go ./
COPY internal ./internal
ARG VERSION=development
ARG COMMIT=
# /tmp, because scratch has none and `oidc-dbt exec` writes the profile there. The roots are Alpine's copy of Mozilla's
# list; a release has the copy of golang.org/x/crypto.
RUN mkdir -p /image/etc/ssl/certs /image/tmp && chmod 1777 /image/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && ln -s oidc-dbt /image/oidc-dbt-post \
 && go build -trimpath -buildvcs=false \
    -tags=grpcnotrace,nethttpomithttp2 -gcflags=all=-l -gcflags=runtime/...= -gcflags=internal/...= -gcflags=crypto/internal/...= \
    -gcflags=go.opentelemetry.io/otel/...= -gcflags=github.com/oidc-dbt/oidc-dbt/internal/broker= \
    -ldflags "-s -w -funcalign=16 -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /image/oidc-dbt .

FROM scratch
COPY --from=build /image/ /
COPY LICENSE /
# root, as GitHub's documentation asks of container actions: the files by which a step talks to the runner belong to the runner's
# user, whose number differs from runner to runner. The container action continues as that user before it does
# anything else. Elsewhere choose one (docker run --user, runAsUser): the binary needs none in particular.
USER 0:0
ENTRYPOINT ["/oidc-dbt"]
