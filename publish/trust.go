package publish

import (
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// isKey refuses a key file that does not hold exactly the key that its name says: clients
// would trust whatever else is in it.
func isKey(armored []byte, f key.Fingerprint) error {
	p, err := key.ReadPublic(armored)
	if err != nil {
		return err
	}
	if got := p.Fingerprint(); got != f {
		return fmt.Errorf("it holds the key %s", got)
	}
	return nil
}
