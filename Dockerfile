# The binary alone, for CI systems that run images:
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
# /tmp, because scratch has none and `oidc-dbt exec` writes the profile there.
RUN mkdir -p /image/etc/ssl/certs /image/tmp && chmod 1777 /image/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && go build -trimpath -buildvcs=false \
    -gcflags=all=-l -gcflags=std= -gcflags=github.com/oidc-dbt/oidc-dbt/internal/broker= \
    -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /image/oidc-dbt .

FROM scratch
COPY --from=build /image/ /
COPY LICENSE /
# Not root. 1001 is the user of GitHub's own runners, whose files a step in a container has to write.
USER 1001:1001
ENTRYPOINT ["/oidc-dbt"]
