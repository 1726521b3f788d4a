# What there is to do here. `make demo` and `make test` are all that a newcomer needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
MODULES := . test infra

.PHONY: build demo test test-root test-servers test-infra lint bench fuzz

# The released binary: no workspace, so that its versions are those of its own go.mod.
build:
	GOWORK=off CGO_ENABLED=0 go build -trimpath -o bin/publish ./cmd/publish

# A buildcache published to an embedded S3 server and served until Ctrl-C.
demo:
	go run ./test/cmd/demo

test: test-root test-servers test-infra

test-root:
	go test -race ./...

# Against a real S3 server, with the real binary.
test-servers:
	cd test && go test -timeout 30m ./...

# CI=true: a tool that is missing fails a test and does not skip it.
test-infra:
	cd infra && npm ci --no-audit --no-fund --loglevel=error && scripts/moto.sh >/dev/null && CI=true GOWORK=off go test ./...

lint:
	test -z "$$(gofmt -l $$(git ls-files "*.go") | tee /dev/stderr)"
	for m in $(MODULES); do (cd $$m && go vet ./... && $(STATICCHECK) ./...); done
	for m in . infra; do (cd $$m && GOWORK=off go mod tidy -diff); done
	.ci/govulncheck $(GOVULNCHECK)

# Micro-benchmarks, in the form that benchstat compares.
bench:
	go test -run '^$$' -bench . -benchmem ./publish/...

# Every parser, for some seconds each.
fuzz:
	for f in $$(grep -rl 'func Fuzz' publish --include='*_test.go'); do \
	  for n in $$(grep -o 'func Fuzz[A-Za-z0-9]*' $$f | cut -c6-); do \
	    go test ./$$(dirname $$f) -run '^$$' -fuzz "^$$n$$" -fuzztime 10s -fuzzminimizetime 10x; \
	  done; \
	done
