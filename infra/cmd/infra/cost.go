package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	f.Float64Var(&u.WrittenGB, "written-gb", 50, "what is published in the month; --replica-region copies it")
	f.Float64Var(&u.StoredObjects, "stored-objects", 300_000, "objects and old versions that the bucket holds; --inventory lists them, --intelligent-tiering watches them")
	f.Float64Var(&u.Queries, "queries", 100, "queries over all access logs in the month, with --athena")
	f.Float64Var(&u.Indexers, "indexers", 2, "hosts that run publish indexer, with --indexer-queue")
	asJSON := f.Bool("json", false, "print one JSON document")
	cmd.RunE = func(*cobra.Command, []string) error {
		c, err := t.offline()
		if err != nil {
			return err
		}
		if err := inRange(f); err != nil {
			return usage{err}
		}
		if !c.IndexerQueue {
			u.Indexers = 0
		}
		u.LogDays, u.LockDays = float64(c.LogDays), float64(c.LockLogDays)
		u.Domain, u.Alarms, u.CloudTrail = c.HostedZoneID != "", c.Alarms, c.CloudTrail
		u.OriginShield, u.IntelligentTiering, u.WAF = c.OriginShield, c.IntelligentTiering, c.WebACLArn != ""
		u.Replica, u.Inventory, u.Athena = c.ReplicaRegion != "", c.Inventory, c.Athena
		u.CertificateAlarm, u.CostAnomaly, u.Budget = c.CertificateDays > 0, c.CostAnomaly > 0, c.MonthlyBudget > 0
		u.SigningKey = c.SigningKey != ""
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

// inRange refuses numbers that mean nothing: negative ones, infinite ones and those that
// are none (NaN is smaller and larger than nothing).
func inRange(flags *pflag.FlagSet) error {
	var found []error
	flags.VisitAll(func(f *pflag.Flag) {
		n, err := strconv.ParseFloat(f.Value.String(), 64)
		if f.Value.Type() != "float64" || err != nil {
			return
		}
		top, words := math.MaxFloat64, "0 or more"
		if f.Name == "hit-rate" {
			top, words = 1, "0 to 1"
		}
		if !(n >= 0 && n <= top) {
			found = append(found, fmt.Errorf("--%s %g: want %s", f.Name, n, words))
		}
	})
	return errors.Join(found...)
}
