// Package events keeps the indices of mirrors up to date, with any program that writes to the mirrors. It
// receives the events that S3 sends to an SQS queue.
//
// A message is only a hint. It may arrive late, twice, or out of order. The content of the mirror at the time of
// the update decides. A message is deleted only after everything that it names is in order, caches included. If a
// host dies, its messages are delivered to another host, so nothing is lost. Any number of hosts may serve a queue,
// all in the same role.
//
// Deletions are ignored: no message removes a package from an index.
package events
