# Start with "make demo" and "make test". They need git, make and Go ("make test" also needs Python 3.10
# or later) and download everything else that they use.

BIN := build/ctworker

.PHONY: help build licenses man demo queue-demo test test-interop wheel lint check bench bench-peers bench-go fuzz clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

build: ## build the command as one static program, build/ctworker
	@mkdir -p build
	CGO_ENABLED=0 go build -trimpath -o $(BIN) ./cmd/ctworker

licenses: build ## collect the license texts of all modules in build/ctworker in build/licenses
	@go run ./internal/licenses $(BIN) build/licenses

man: build ## write the manual pages, build/man/*.1
	@go run ./internal/man $(BIN) build/man

demo: build ## run 1,000 addition tasks with progress, events and a summary
	@CGO_ENABLED=0 go build -trimpath -o build/addition ./examples/addition
	@scripts/demo

queue-demo: build ## load 1,000 tasks into a queue, run them with four workers, collect the events
	@CGO_ENABLED=0 go build -trimpath -o build/addition ./examples/addition
	@scripts/queue-demo

test: build ## run all tests, including those of the Python package
	@scripts/test
	@scripts/test-python

test-interop: build ## run the tests with the pool manager, workers and examples of rms-cloud-tasks
	@scripts/interop

wheel: licenses ## build a wheel of the Python package, which contains ctworker and the license texts, and an sdist, in build/dist
	@scripts/wheel

lint: ## vet, lint, and check the formatting and the language (the first run builds the linters, which takes a few minutes)
	go vet -tags interop ./...
	GOOS=darwin go vet -tags interop ./...
	go tool -modfile=tools/go.mod golangci-lint run ./...
	@scripts/lint-language

check: test lint ## run the tests and the linter

bench: build ## measure throughput, CPU time and latency by mode, source and number of slots, next to baselines (20 minutes)
	@. scripts/venv; go run ./bench

bench-peers: build ## compare with xargs, GNU parallel, concurrent.futures, dask and Celery (5 minutes)
	@scripts/peers
	go run ./bench -run peers

bench-go: ## run the Go benchmarks of each stage and parser, with allocations
	go test -run '^$$' -bench . . ./pipeline ./stages ./internal/procexec ./sources/taskfile ./sinks/eventlog ./internal/worker

fuzz: ## run each fuzz target for 30 s
	@scripts/fuzz

clean: ## remove build/
	rm -rf build
