// Package service surrounds the daemon and the indexer on a host: the configuration file, listeners and their
// users, systemd, the journal, reloads, and bandwidth by the time of the week.
//
// Package daemon decides when a mirror is published; this package does the work.
package service
