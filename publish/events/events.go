// Package events keeps mirrors up to date, whichever program writes to them, from the events that S3 sends to an SQS
// queue.
//
// A message is only a hint where to look. It may come late, twice, or before one that was
// sent earlier; what counts is what the mirror holds when it is read. A message is deleted
// from the queue when everything that it names is in order, caches included, and not before. So a host that dies
// leaves its messages to another one, and nothing is lost. Any number of hosts may serve one
// queue, and none of them is special.
//
// A deletion changes nothing: no message takes a package out of an index.
package events
