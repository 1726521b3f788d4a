package concurrent

import (
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/traffic"
)

// Eight publishers are at work while a package is withdrawn or given again, the index is rolled back, and a prune is planned. make soak lets
// prunes delete.
func TestPublishersBesideWithdrawalsAndRollbacks(t *testing.T) {
	o := traffic.Flags()
	if o.Source = "../testdata/v3-signed"; testing.Short() {
		o.Rounds = 2
	}
	traffic.Run(t, o)
}
