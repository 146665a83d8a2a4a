// Package help renders the documentation of a program's command line: help pages, shell
// completion scripts and, with internal/man, manual pages.
//
//	config's table of settings ─┐                   ┌─▶ Short, Full ─▶ a terminal
//	flags of a cli.Command ─────┼─▶ OfCommand ─▶ Command ─▶ Completion ─▶ bash, zsh, fish
//	a program's flag.FlagSet ───┘                   └─▶ JSON ─▶ internal/man ─▶ roff
//
// # The guarantee
//
// Every flag and command is described in one place, next to the code that parses it. All
// output is generated from there, so no list of flags can become stale.
//
// # What it is not for
//
// The package does not parse command lines. Write reports an error if the output could not be written.
package help
