// Package interop tries the product with what others have made and what takes long to build:
// the action under act, and MinIO as S3 and as STS. `make interop` builds both and runs it; it
// is no part of the gate.
package interop
