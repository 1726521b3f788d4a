// Package service is what surrounds the daemon and the indexer on a host: the configuration file, listeners and
// who may use them, systemd, the journal, reloads, and bandwidth by the time of the week.
//
// Package daemon decides when a mirror is published; this package hands it the work.
package service
