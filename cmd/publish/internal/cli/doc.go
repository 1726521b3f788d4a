// Package cli is what all commands have in common: the environment of the program, settings from flags,
// variables and files, failures with their exit codes and hints, and how results are written.
//
// What is written to the streams of an Env is escaped, so text from a source or a server cannot control a
// terminal.
package cli
