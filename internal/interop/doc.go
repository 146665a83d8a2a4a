// Package interop tests ctworker together with the system that its specification
// describes: the Python package rms-cloud-tasks, at the release in requirements.txt.
//
//	its manager   ──▶ startup script ──▶ ctworker's worker
//	its load      ──▶ task queue ──▶ ctworker's worker ──▶ event queue ──▶ its event monitor
//	ctworker load ──▶ task queue ──▶ its worker        ──▶ event queue ──▶ ctworker events
//
// The tests use moto and Google's Pub/Sub emulator. They have the build tag "interop"; run
// them with "make test-interop", which installs the package into build/venv-interop and its
// example programs into build/interop. Neither is part of this project: the examples come
// from the package's source distribution and run unchanged.
package interop
