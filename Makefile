# respmesh: what people and CI run. `make` alone lists the targets.

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD    := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
FUZZTIME ?= 30s
ARGS     ?=
PREFIX   ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help run build install release man test soak lab lab-shell check bench fuzz generate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build, then start a three-region mesh on this machine (ARGS="--regions mad,ams,nrt")
	bin/respmesh dev $(ARGS)

build: ## build the static binary bin/respmesh
	$(BUILD) -o bin/respmesh ./cmd/respmesh

install: build ## install bin/respmesh, man pages, completions and the systemd unit below PREFIX (default /usr/local)
	scripts/install --prefix $(PREFIX) $(ARGS)

release: ## cross-compile for Linux and macOS into dist/: archives and SHA256SUMS
	VERSION=$(VERSION) scripts/release

man: build ## write the man pages to bin/man
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s) bin/respmesh man bin/man

test: ## install what the tests need, then vet and run all of them with the race detector
	scripts/install-test-deps
	scripts/test

soak: ## kill the primary 100 times under load, then add a region with 1 GiB of data three times: about 20 minutes (ARGS="-run TestKills")
	scripts/soak $(ARGS)

lab: ## test on hosts: network namespaces with a WAN between them (root; ARGS="-run Names")
	scripts/install-test-deps
	scripts/lab test $(ARGS)

lab-shell: ## build those hosts and keep them, to walk in
	scripts/install-test-deps
	scripts/lab shell

check: ## gofmt, vet, staticcheck, govulncheck and the import rules
	scripts/check

bench: ## compare with redis-server and proxies, as Markdown tables and drawings in docs/, in half an hour (ARGS="-repeats 3")
	scripts/bench $(ARGS)

fuzz: ## run each fuzz target for FUZZTIME (default 30s)
	scripts/fuzz $(FUZZTIME)

generate: ## write generated files again (needs redis-server)
	go generate ./...

clean: ## remove what the other targets made
	rm -rf bin dist test/clients/node_modules
