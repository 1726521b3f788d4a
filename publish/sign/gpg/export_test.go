package gpg

import (
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

// SetPatience changes for how long gpg may do nothing.
func SetPatience(k *sign.Key, d time.Duration) { k.Signer().(*signer).patience = d }
