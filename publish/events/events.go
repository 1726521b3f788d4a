// Package events keeps mirrors right whoever writes to them, by what S3 tells an SQS queue of its
// buckets.
//
// What is told is only a hint where to look. A message may come late, twice, or before one that was
// sent earlier; what counts is what the mirror holds when it is looked at. A message is taken
// from the queue when all that it tells is in order, caches included, and not before. So whoever dies at
// it leaves it to another host, and nothing is lost; any number of hosts may serve one
// queue, and none of them is special.
//
// That something was deleted changes nothing: no message takes a package out of an index.
package events
