// Package interop tests ctworker together with the system that its specification
// describes: the Python package rms-cloud-tasks, at the release in requirements.txt.
//
//	its manager ──▶ startup script ──▶ our worker
//	its load    ──▶ task queue     ──▶ our worker ──▶ event queue ──▶ its event monitor
//	our load    ──▶ task queue     ──▶ its worker ──▶ event queue ──▶ our events
//
// The queues are those of moto and of Google's Pub/Sub emulator. The tests have the build
// tag "interop" and run with "make test-interop", which installs that system into an
// environment of its own, build/venv-interop, and its example programs next to it.
// Neither is part of this project: the examples come from the source distribution and
// run unchanged.
package interop
