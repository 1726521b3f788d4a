package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/keyring"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// keys reports keys that expire soon. It does not check mirrors below the destination.
func (d *doctor) keys(ctx context.Context, name string, to *target.Destination) {
	now := time.Now()
	keys, err := keyring.Expiring(ctx, to.Mirror(""), now)
	if err != nil {
		d.note(name+"keys", "their expiry is unknown: "+err.Error())
		return
	}
	noted := make(map[key.Fingerprint]bool)
	for _, k := range keys {
		if noted[k.Fingerprint] { // noted in the other layout
			continue
		}
		noted[k.Fingerprint] = true
		when := "expires"
		if k.Expires.Before(now) {
			when = "expired"
		}
		d.note(name+"key "+string(k.Fingerprint), fmt.Sprintf("it %s on %s: extend it (gpg --quick-set-expire, for subkeys with '*') and publish it again, or rotate it (publish keys rotate)", when, k.Expires.UTC().Format(time.DateOnly)))
	}
}
