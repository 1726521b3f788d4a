// Package publish puts Spack buildcaches where clients can find them, and keeps the
// mirrors there whole.
//
// Each operation first decides and then acts: a Plan is data that can be printed,
// and what is printed is what is done. The order of what is done is the promise: each
// step points only at what earlier steps made durable, so a reader who looks between any
// two requests, or finds the publisher dead there, has a mirror that works.
//
// Nothing here can delete from a mirror, and only the index, and with it the index of
// keys, is ever contended: it is replaced only as the version that was read, and
// merged again when another publisher was faster. So any number of publishers may
// write one mirror, and no package that one of them reported as published is lost.
package publish
