# Two commands for a newcomer: "make demo" and "make test". They need git, make
# and Go, and fetch what else they need from the Go module proxy.

BIN := build/ctworker

.PHONY: help build licenses demo queue-demo test test-interop wheel lint check bench bench-peers bench-go fuzz clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

build: ## build the command as one static program, build/ctworker
	@mkdir -p build
	CGO_ENABLED=0 go build -trimpath -o $(BIN) ./cmd/ctworker

licenses: build ## collect the licence texts of all modules in build/ctworker, in build/licenses
	@go run ./internal/licenses $(BIN) build/licenses

demo: build ## run 1,000 addition tasks with progress, events and a summary
	@CGO_ENABLED=0 go build -trimpath -o build/addition ./examples/addition
	@scripts/demo

queue-demo: build ## load 1,000 tasks into a queue, run them with four workers, collect the events
	@CGO_ENABLED=0 go build -trimpath -o build/addition ./examples/addition
	@scripts/demo-queue

test: build ## run all tests, the Python package's too
	@scripts/test
	@scripts/test-python

test-interop: build ## test ctworker together with the manager, workers and examples of rms-cloud-tasks
	@scripts/interop

wheel: licenses ## build the Python package, with the command and its licence texts in it, as a wheel and an sdist in build/dist
	@scripts/wheel

lint: ## vet, lint and check the formatting (builds the linter once, a few minutes)
	go vet -tags interop ./...
	GOOS=darwin go vet -tags interop ./...
	go tool -modfile=tools/go.mod golangci-lint run ./...

check: test lint ## what CI runs

bench: build ## rate, cost and latency by mode, source and slots, beside the machine's ceilings (20 minutes)
	@. scripts/venv; go run ./bench

bench-peers: build ## the same work by xargs, GNU parallel, concurrent.futures, dask and Celery (5 minutes)
	@scripts/peers
	go run ./bench -run peers

bench-go: ## Go benchmarks of each stage and parser, with allocations
	go test -run '^$$' -bench . . ./pipeline ./stages ./procexec ./sources/taskfile ./sinks/eventlog ./internal/worker

fuzz: ## run each fuzz target for 30 s
	@scripts/fuzz

clean: ## remove what was built
	rm -rf build
