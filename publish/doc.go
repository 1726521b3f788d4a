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
//	  verify            checks of a mirror, one file for each subject
//	  reindex           the one protocol for changing an index: Merge, Rebuild, Heal; reindex/keyindex: the key index
//	  source            a SOURCE directory: tree, selection, release files, inbox
//	  same upstream     comparison with existing objects; packages of another mirror
//	  offer             selection of the public keys that clients are offered
//	  views             selection of the packages that a view offers
//	  closure           selected packages of an index, and all that they need
//	  elsewhere         another mirror as a source, for copies
//	  transfer archive  content moved between mirrors; a mirror in one tar file
//	  history rollback withdraw tombstone           earlier states of an index, and withdrawn packages
//	  putback           an earlier pointer that was put back
//	  promotion         evidence of copies made under rules
//	  keyring           the public keys of a mirror
//	  prune             removal of objects that are no longer needed
//	    listing         the objects of a bucket, by an S3 Inventory
//	  roots             the mirrors of a tree
//	  buildcache        the content of a mirror; the layouts v3 and v2 behind one interface; the survey
//	    blob spec manifest layout index indices key sign    words and documents
//	  inventory query sbom lockfile catalog licence downloads   the packages of a mirror, and downloads of them
//	  mirror            the boundary: interfaces to read, list, write and replace objects
//	    s3 dir web      its implementations; s3/bucketname
//	  target tune       a DESTINATION with its CDN and credentials, from one plain Config; which settings are fastest
//	  session credentials cloudfront events unreached  AWS; sign/kms and sign/gpg: keys kept outside of this program
//	  daemon queue arrival                          publishing packages as they arrive
//	  field redact endpoint shell userfile alike    settings, addresses, commands and files of users; many findings as one line
//	  defect parallel nofile histogram sha256x2 price nearest   helpers that do not depend on mirrors
//
// # What is stable
//
// Importers may rely on these, each of which has an example that is run as a test: [source.Open], [NewPlan],
// [Plan.Apply], verify.Mirror, and the interfaces of package mirror with mirror.Read. Their meaning changes only with
// the major version of the module. Everything else that is exported serves the other packages of this module and the
// command, and may change with any release: the fields of packages and pointers in buildcache, reindex as a whole,
// target, daemon, queue and what is below them.
package publish
