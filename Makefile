# The only door, the same for a person and for CI. `deploy/karri` has what a user needs; this has what a contributor needs.
# On a machine without make: deploy/karri test.

SWIFT ?= swift
GENERATOR = .build/debug/APIGenerator

.PHONY: all build test unit integration simulate check format generate up down benchmark clean

all: build

build: ## debug build of everything, tests included
	$(SWIFT) build --build-tests

test: check unit integration ## all four rings; under 30 minutes on two cores

unit: ## unit, contract and simulation rings
	$(SWIFT) test --parallel --num-workers 2

simulate: ## more seeds: make simulate SEEDS=2000
	KARRI_SEEDS=$(or $(SEEDS),2000) $(SWIFT) test --filter SimulationTests

integration: build ## real PostgreSQL, libvirt and QEMU, nftables, stock clients: a cloud in a network namespace of its own
	Tests/IntegrationTests/run

check: build ## format, lint, generated code up to date, shell scripts parse
	$(SWIFT) format lint --strict --recursive --parallel Sources Tests Package.swift
	$(GENERATOR) check
	for f in deploy/karri deploy/lib/*.sh deploy/build-image deploy/bundle-image Tests/IntegrationTests/run .ci/run; do bash -n $$f || exit 1; done

format:
	$(SWIFT) format --in-place --recursive --parallel Sources Tests Package.swift

generate: ## code, WSDL and reference pages from Sources/Shared/API/Definitions
	$(SWIFT) build --product APIGenerator
	$(GENERATOR) generate
	$(GENERATOR) wsdl
	$(GENERATOR) docs

up:
	deploy/karri up

down:
	deploy/karri down

benchmark: ## docs/performance.md says what each figure means
	Tests/Benchmarks/run

clean:
	$(SWIFT) package clean
