# The two commands of the README, `go run ./cmd/ottla serve` and `go test ./...`, need no make. This file is for those who like it
# and for what needs more than Go.
.DEFAULT_GOAL := help
.PHONY: help run test prove lint fix-lint build cross interop fuzz bench generate verify-generate clean

TOOLS := -modfile=tools/go.mod
FUZZTIME ?= 10s

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## a broker on 127.0.0.1:9092 with its data in ./data
	go run ./cmd/ottla serve

test: ## every test that needs only Go (RACE=1 adds the race detector)
	go test $(if $(RACE),-race) -timeout 20m ./...

prove: ## proofs that nothing acknowledged is lost, with a ledger line for each; PROVE=long takes hours
	go run ./test/prove

lint: ## gofmt, go vet, golangci-lint and the pinned minimums of dependencies
	go tool $(TOOLS) golangci-lint run ./...
	go -C test/blocklog vet ./...
	bash .ci/minimums

fix-lint: ## what lint can mend by itself
	go tool $(TOOLS) golangci-lint run --fix ./...

build: ## bin/ottla, static
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/ottla ./cmd/ottla

cross: ## builds for every platform we promise
	for p in linux/amd64 linux/arm64 darwin/arm64; do \
	  echo "build $$p" && CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build -trimpath -o /dev/null ./cmd/ottla || exit 1; done

interop: build ## real clients: kcat, the JVM's, Node's and Python's; installs what is missing
	bash test/interop/run

fuzz: ## every fuzz target for FUZZTIME (10s) each
	bash .ci/fuzz $(FUZZTIME)

bench: build ## the broker beside Apache Kafka, same load, alternating; prints ratios (BENCH='--quick', '--list', ...)
	go run ./bench $(BENCH)

generate: ## documents that are made from tables in the code
	go generate ./...

verify-generate: generate ## fails when a generated document is out of date
	git diff --exit-code -- docs

clean:
	rm -rf bin
