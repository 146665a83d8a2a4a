// Package config holds the settings of a worker and nothing about running
// one. It reads them from four places, the first of which to name a setting
// decides it:
//
//	command line ─▶ environment ─▶ config file ─▶ default
//	  Line            LookupEnv      --config FILE    └─▶ what follows from
//	                                                      other settings
//
// One table, in settings.go, says of each setting what it is called, what its
// value looks like and which field of [Config] it fills. The flags and their
// help, the environment, the file, the output of --print-config and the
// environment of a task all follow from that table.
//
// The guarantee: a [Config] that [Load] returns is complete and consistent,
// with every default filled in; and if there is anything wrong, anywhere, Load
// returns every fault there is at once, one line each, with the flag or the
// variable as its user knows it, the value, and what would be right. A bad
// value is a fault even where a better one overrides it.
//
// The package never prints and never exits. It is not for the arguments of the
// user's own program, and it opens no task file and no queue: that a file is
// there or that a queue exists is for their sources to find out.
package config
