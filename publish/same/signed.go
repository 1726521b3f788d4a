package same

import (
	"context"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Text compares the text of a document with that of the one that is there under a name, whatever signatures they have, and
// reports whether the one that is there is signed.
func Text(ctx context.Context, r mirror.Reader, name string, document []byte) (same, signed bool, err error) {
	there, _, err := mirror.Read(ctx, r, name, buildcache.MaxDocument)
	if err != nil {
		return false, false, err
	}
	have, haveErr := key.Text(there)
	want, wantErr := key.Text(document)
	return haveErr == nil && wantErr == nil && string(have) == string(want), key.Signed(there), nil
}

// MaxSignature is how large a detached signature may be that is read.
const MaxSignature = 64 << 10

// DetachedBy reports whether a detached signature that is there says that a key has made it, and which version of it that is.
func DetachedBy(ctx context.Context, r mirror.Reader, name string, public *key.Public) (bool, mirror.Version, error) {
	signature, info, err := mirror.Read(ctx, r, name, MaxSignature)
	if err != nil {
		return false, "", err
	}
	by, err := key.IssuerOfDetached(signature)
	return err == nil && public.Made(by), info.Version, nil
}
