package main

import (
	"fmt"

	"github.com/vantagecompute/slurm-factory-publish/infra"
)

// theReplica names the stack and the bucket of the copy in a region, with the commands that
// delete them: the stack of the cache knows nothing of them.
func theReplica(c infra.Config, region string) string {
	at := " --region " + region + " --stack-name " + c.ReplicaStack()
	return fmt.Sprintf(`stack %s in %s, and its bucket s3://%s with the copy; to delete the stack
  aws cloudformation update-termination-protection --no-enable-termination-protection%s
  aws cloudformation delete-stack%s
to delete the bucket for good, which outlives its stack, empty it and run
  aws s3api delete-bucket --region %s --bucket %s
`, c.ReplicaStack(), region, c.ReplicaBucket(), at, at, region, c.ReplicaBucket())
}

// sayWhatIsLeft names the copy that a deployment without its region leaves behind.
func (t *tool) sayWhatIsLeft(s site) {
	for _, region := range s.live.settings["replica-region"] {
		if orNone(region) != "" && region != s.ReplicaRegion {
			fmt.Fprint(t.stderr, "nothing is copied to "+region+" any more; it stays there: "+theReplica(s.Config, region))
		}
	}
}
