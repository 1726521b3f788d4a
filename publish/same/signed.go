package same

import (
	"context"
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Text compares the text of a document with that of the existing one of a name, ignoring signatures, and
// reports whether the existing one is signed.
func Text(ctx context.Context, r mirror.Reader, name string, document []byte) (same, signed bool, err error) {
	there, _, err := mirror.Read(ctx, r, name, buildcache.MaxDocument)
	if err != nil {
		return false, false, err
	}
	have, haveErr := key.Text(there)
	want, wantErr := key.Text(document)
	return haveErr == nil && wantErr == nil && string(have) == string(want), key.Signed(there), nil
}

// MaxSignature is the maximum size of a detached signature that is read, in bytes.
const MaxSignature = 64 << 10

// Detached checks an existing detached signature of the given content with trusted keys. It returns the key
// that the signature names, the version of the signature that was read, and what is wrong with it.
func Detached(ctx context.Context, r mirror.Reader, there mirror.Info, content blob.Source, trusted *key.Ring) (by key.Issuer, v mirror.Version, objection, err error) {
	if there.Size > MaxSignature {
		return by, there.Version, fmt.Errorf("it has %d bytes, and a signature has at most %d", there.Size, MaxSignature), nil
	}
	signature, info, err := mirror.Read(ctx, r, there.Name, MaxSignature)
	if err != nil {
		return by, "", nil, err
	}
	if by, objection = key.IssuerOfDetached(signature); objection != nil {
		return by, info.Version, objection, nil
	}
	body, err := blob.Stream(content)
	if err != nil {
		return by, "", nil, err
	}
	defer body.Close()
	_, objection = trusted.VerifyDetached(body, signature)
	return by, info.Version, objection, ctx.Err()
}
