// Package publish puts Spack buildcaches where clients can find them.
//
// A [source.Source] holds what can be published. [NewPlan] compares it with its destination and decides.
// [Plan.Apply] carries out the plan and returns an [Outcome]:
//
//	Source --NewPlan(Source, Store)--> Plan --Apply--> Outcome
//
// Data flows one way, and no value is changed after it is built. A plan is data that can be printed, and
// Apply does exactly what it says. Only the Outcome says what was really done.
//
// The order of the steps is the promise. Each step points only at objects that earlier steps made durable. So
// a reader sees a working mirror between any two requests, and also if the publisher dies there. Nothing here
// can delete from a mirror. Publishers compete only for the index and the index of keys. An index is replaced
// only if it is still the version that was read; if another publisher was faster, it is merged again. So any
// number of publishers may write to one mirror, and no package that one of them reported as published is
// lost.
//
// # The tree
//
// Imports point only down this list; publish/internal/imports holds the whole table.
//
//	publish             the main job: NewPlan, Plan.Apply, Plan.Check
//	  verify            fsck of a mirror, one file a subject
//	  reindex           the one protocol by which an index is changed: Merge, Rebuild, Heal; reindex/keyindex: that of keys
//	  source            a SOURCE directory: tree, selection, release files, inbox
//	  same upstream     what is there already; what another mirror has
//	  offer             which public keys clients are offered
//	  views             which packages a view offers
//	  closure           packages of an index that are selected, and all that they need
//	  elsewhere         a mirror elsewhere as a source, which is copied
//	  transfer archive  its content, from where it is to where it is stored; a mirror in one tar file
//	  history rollback withdraw tombstone           earlier states of an index, and packages that are taken back
//	  putback           an earlier pointer that was put back
//	  promotion         evidence of what was copied under rules
//	  keyring           the public keys of a mirror
//	  prune             what is no longer needed
//	    listing         what a bucket holds, by an S3 Inventory
//	  roots             the mirrors of a tree
//	  buildcache        what a mirror consists of; the layouts v3 and v2 behind one interface; the survey
//	    blob spec manifest layout index indices key sign    words and documents
//	  inventory query sbom lockfile catalog licence downloads   what is in a mirror, and what is fetched of it
//	  mirror            the boundary: what can be read, listed, written, replaced
//	    s3 dir web      its implementations; s3/bucketname
//	  target tune       a DESTINATION with its CDN and credentials, from one plain Config; which settings are fastest
//	  session credentials cloudfront events unreached  AWS; sign/kms too, and sign/gpg: keys that are elsewhere
//	  daemon queue arrival                          when something is published
//	  field redact endpoint shell userfile alike    settings, addresses, commands and files of users; many findings as one line
//	  defect parallel nofile histogram sha256x2 price nearest   what has nothing to do with mirrors
//
// # What is stable
//
// Importers may rely on these, each of which has an example that is run as a test: [source.Open], [NewPlan],
// [Plan.Apply], verify.Mirror, and the interfaces of package mirror with mirror.Read. Their meaning changes only with
// the major version of the module. Everything else that is exported serves the other packages of this module and the
// command, and may change with any release: the fields of packages and pointers in buildcache, reindex as a whole,
// target, daemon, queue and what is below them.
package publish
