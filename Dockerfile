# For those who build the image themselves. The released one is made by `make image`, without
# Docker, so that its digest follows from the source; the binary in both is the same.
FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm@sha256:dc9ad6c05acc7a88e5b71bde60a5fe3bd4b9f0db209011711b464107438a8107 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS=linux
ARG TARGETARCH=amd64
RUN GOWORK=off CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o /slurm-factory-publish ./cmd/publish

# No USER: the files of a job belong to the runner's user, and only root may write them all.
FROM scratch
LABEL org.opencontainers.image.title="slurm-factory-publish" \
      org.opencontainers.image.description="Publishes Spack buildcaches to S3 and CloudFront" \
      org.opencontainers.image.source="https://github.com/vantagecompute/slurm-factory-publish" \
      org.opencontainers.image.documentation="https://github.com/vantagecompute/slurm-factory-publish#readme" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /
COPY --from=build /slurm-factory-publish /slurm-factory-publish
ENTRYPOINT ["/slurm-factory-publish"]
CMD ["action"]
