package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func estimated(t *testing.T, args ...string) (total float64, lines []string) {
	t.Helper()
	code, stdout, stderr := try(append([]string{"cost", "--json", "--cloudtrail", "--domain", "cache.example.com", "--hosted-zone-id", "Z1"}, args...)...)
	var out struct {
		Total float64
		Lines []struct{ What string }
	}
	if err := json.Unmarshal([]byte(stdout), &out); code != 0 || err != nil {
		t.Fatalf("cost %v: exit %d, %v, %s", args, code, err, stderr)
	}
	for _, l := range out.Lines {
		lines = append(lines, l.What)
	}
	return out.Total, lines
}

// TestPaidSettingsAreInTheEstimate: what its help calls paid changes the sum, and what is
// kept for longer costs more.
func TestPaidSettingsAreInTheEstimate(t *testing.T) {
	values := map[string]string{"alarms": "false", "cloudtrail": "false", "replica-region": "us-west-2", "signing-key": "new"}
	paid := map[string]string{
		"lock-log-days": "3650", "log-days": "3650", "certificate-days": "30", "waf-arn": "arn:aws:wafv2:us-east-1:123456789012:global/webacl/a/1",
		"intelligent-tiering": "true", "indexer-queue": "true",
	}
	newSettings().flags.VisitAll(func(f *pflag.Flag) {
		if strings.Contains(f.Usage, "paid") {
			paid[f.Name] = "true"
			if v := values[f.Name]; v != "" {
				paid[f.Name] = v
			}
		}
	})
	if len(paid) < 12 {
		t.Fatalf("found only %v", paid)
	}
	before, _ := estimated(t)
	for name, value := range paid {
		if after, _ := estimated(t, "--"+name+"="+value); after == before {
			t.Errorf("--%s=%s leaves the estimate at $%.4f", name, value, before)
		}
	}
}

// TestFreeSettingsAreInTheEstimate with a line that says so.
func TestFreeSettingsAreInTheEstimate(t *testing.T) {
	before, _ := estimated(t)
	for setting, line := range map[string]string{"cost-anomaly": "Cost anomaly detection", "monthly-budget": "Budget"} {
		after, lines := estimated(t, "--"+setting, "20", "--alarm-email", "ops@example.com")
		if after != before || !strings.Contains(strings.Join(lines, "\n"), line) {
			t.Errorf("--%s: $%.2f, was $%.2f; lines %v", setting, after, before, lines)
		}
	}
}

// TestUnlockedRecordsAreSaidToBe: without --lock-log-days nothing is locked for 0 days.
func TestUnlockedRecordsAreSaidToBe(t *testing.T) {
	if _, stdout, _ := try("cost", "--cloudtrail"); !strings.Contains(stdout, "days, not locked") || strings.Contains(stdout, "locked for 0") {
		t.Error(stdout)
	}
	if _, stdout, _ := try("cost", "--cloudtrail", "--lock-log-days", "30"); !strings.Contains(stdout, "locked for 30") {
		t.Error(stdout)
	}
}
