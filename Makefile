# The only door, the same for a person and for CI. `deploy/karri` has what a user needs; this has what a contributor needs.
# On a machine without make: deploy/karri test.

SHELL = /bin/bash
SWIFT ?= swift
GENERATOR = .build/debug/APIGenerator
# All tests are in this program; started itself, a target begins at once, where `swift test` first looks at the whole package.
TESTS = .build/debug/karriPackageTests.xctest

.PHONY: all build test unit integration simulate check format generate up down benchmark clean

all: build

build: ## debug build of everything, tests included
	$(SWIFT) build --build-tests

test: check unit integration ## all four rings; under 30 minutes on two cores

# One test target after the other: each is parallel in itself, and those that start servers and domains do not starve those that measure time.
TARGETS = StyleTests DomainTests WireTests SigningTests DatabaseTests IdentityTests DaemonTests ClusterControllerTests StorageControllerTests \
	NodeControllerTests CloudControllerTests WalrusTests ContractTests SimulationTests

unit: build ## unit, contract and simulation rings
	@for target in $(TARGETS); do \
		echo "== $$target"; \
		NO_COLOR=1 $(TESTS) --testing-library swift-testing --filter "^$$target\\." 2>&1 | tee .build/test.log; \
		[ $${PIPESTATUS[0]} -eq 0 ] || exit 1; \
		! grep -q 'Test run with 0 tests in' .build/test.log || { echo "$$target has no test"; exit 1; }; \
	done

simulate: ## more seeds: make simulate SEEDS=2000
	SWIFT_DETERMINISTIC_HASHING=1 KARRI_SEEDS=$(or $(SEEDS),2000) $(SWIFT) test --filter SimulationTests

integration: build ## real PostgreSQL, libvirt and QEMU, nftables, stock clients: a cloud in a network namespace of its own
	Tests/IntegrationTests/run
	KARRI_GUEST=$(CURDIR)/.build/karri-image $(SWIFT) test --skip-build --filter 'ContractTests\.FullDiskTests'

check: build ## format, lint, generated code up to date, shell scripts parse
	$(SWIFT) format lint --strict --recursive --parallel Sources Tests Package.swift
	$(GENERATOR) check
	for f in deploy/karri deploy/lib/*.sh deploy/build-image deploy/bundle-image Tests/IntegrationTests/run Tests/IntegrationTests/systemd .ci/run; do bash -n $$f || exit 1; done

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
