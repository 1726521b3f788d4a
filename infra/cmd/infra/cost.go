package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra/cost"
)

func newCost(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cost",
		Short: "Estimate the cost of a month for given storage, traffic and publishes",
		Args:  noArguments,
	}
	t := newStackFlags(cmd, e)
	var u cost.Usage
	f := cmd.Flags()
	f.Float64Var(&u.StorageGB, "storage-gb", 500, "what the bucket holds, old versions included")
	f.Float64Var(&u.TrafficGB, "traffic-gb", 1000, "what readers download in the month")
	f.Float64Var(&u.Requests, "requests", 2e6, "objects that readers ask for in the month")
	f.Float64Var(&u.HitRate, "hit-rate", 0.9, "part of them that the edge answers by itself, 0 to 1")
	f.Float64Var(&u.Publishes, "publishes", 500, "publishes in the month")
	f.Float64Var(&u.Objects, "objects", 200, "objects that one publish writes")
	f.Float64Var(&u.Paths, "paths", 1, "paths that one publish invalidates")
	f.Float64Var(&u.Indexers, "indexers", 2, "hosts that run publish indexer, with --indexer-queue")
	asJSON := f.Bool("json", false, "print one JSON document")
	cmd.RunE = func(*cobra.Command, []string) error {
		c, err := t.offline()
		if err != nil {
			return err
		}
		if u.HitRate < 0 || u.HitRate > 1 {
			return usage{fmt.Errorf("--hit-rate %g: want 0 to 1", u.HitRate)}
		}
		if u.Indexers < 0 {
			return usage{fmt.Errorf("--indexers %g: want 0 or more", u.Indexers)}
		}
		if !c.IndexerQueue {
			u.Indexers = 0
		}
		u.LogDays = float64(c.LogDays)
		u.Domain, u.Alarms, u.CloudTrail = c.HostedZoneID != "", c.Alarms, c.CloudTrail
		u.OriginShield, u.IntelligentTiering, u.WAF = c.OriginShield, c.IntelligentTiering, c.WebACLArn != ""
		lines := cost.Estimate(u)
		if *asJSON {
			enc := json.NewEncoder(e.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(map[string]any{"prices": cost.Read, "lines": lines, "total": cost.Total(lines)})
		}
		w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		for _, l := range lines {
			fmt.Fprintf(w, "%s\t%s\t$%.2f\n", l.What, l.Basis, l.Dollars)
		}
		fmt.Fprintf(w, "a month, before tax\tprices of %s\t$%.2f\n", cost.Read, cost.Total(lines))
		return w.Flush()
	}
	return cmd
}
