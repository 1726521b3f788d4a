// Package cli holds what all commands share: the environment of the program, settings from flags, variables and
// files, failures with their exit codes and hints, and the output of results.
//
// Output to the streams of an Env is escaped, so text from a source or a server cannot control a terminal.
package cli
