package infra

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// PermissionsTable is what every identity of the configuration may do, in Markdown,
// made from the very documents that are deployed.
func PermissionsTable(c Config) string {
	var b strings.Builder
	b.WriteString("| who | on what | may |\n|---|---|---|\n")
	for _, p := range c.Publishers {
		writeRows(&b, "role `"+p.Role+"`", p.Permissions("BUCKET", "DISTRIBUTION"))
		if c.SigningKey != "" && p.Role == c.signer().Role {
			writeRows(&b, "role `"+p.Role+"`", SigningPermissions("KEY"))
		}
	}
	if c.ManualUser != "" {
		writeRows(&b, "user `"+c.ManualUser+"`", policy.ManualUserPermissions("BUCKET", "DISTRIBUTION"))
	}
	if c.IndexerQueue {
		writeRows(&b, "role `"+c.indexerRole()+"`", IndexerPermissions("BUCKET", "DISTRIBUTION", "QUEUE"))
	}
	if c.Deployer != nil {
		writeRows(&b, "role `"+c.DeployRole()+"`", DeployPermissions(c, c.Account))
		writeRows(&b, "role `"+c.DiffRole()+"`", DiffPermissions(c, c.Account))
	}
	if c.ReplicaRegion != "" {
		writeRows(&b, "S3, by the role `"+c.StackName+"-replication`", ReplicationPermissions("BUCKET", "REPLICA"))
	}
	if c.ImmutablePackages {
		writeRows(&b, "everybody", policy.New(policy.ImmutablePackages("BUCKET", c.ManualUser)...))
	}
	b.WriteString("\n| role | who may assume it: a GitHub token with |\n|---|---|\n")
	for _, p := range c.Publishers {
		fmt.Fprintf(&b, "| `%s` | %s |\n", p.Role, conditions(p.Trust("PROVIDER").Statement[0].Condition))
	}
	if c.Deployer != nil {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.DeployRole(), conditions(c.Deployer.Trust("PROVIDER").Statement[0].Condition))
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.DiffRole(), conditions(c.Deployer.pulls().Trust("PROVIDER").Statement[0].Condition))
	}
	return b.String()
}

func writeRows(b *strings.Builder, who string, d policy.Document) {
	for _, st := range d.Statement {
		verb := ""
		if st.Effect == policy.Deny {
			verb = "**not** "
		}
		condition := ""
		if len(st.Condition) > 0 {
			condition = " where " + conditions(st.Condition)
		}
		actions := code(st.Action)
		if len(st.NotAction) > 0 {
			actions = "anything but " + code(st.NotAction)
		}
		fmt.Fprintf(b, "| %s | %s | %s%s%s |\n", who, code(st.Resource), verb, actions, condition)
	}
}

// conditions writes a condition as text, in an order that does not change.
func conditions(c policy.Condition) string {
	var parts []string
	for op, byKey := range c {
		for key, values := range byKey {
			name := strings.TrimPrefix(key, githubIssuer+":")
			parts = append(parts, fmt.Sprintf("`%s` %s %s", name, words(op), code(values)))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// words says an operator in English.
func words(operator string) string {
	switch operator {
	case "StringEquals", "Bool", "ArnEquals":
		return "="
	case "BoolIfExists":
		return "absent or ="
	case "StringLike":
		return "like"
	case "Null":
		return "absent ="
	case "ArnNotEquals":
		return "≠"
	}
	return operator
}

func code(values []string) string {
	quoted := make([]string, 0, len(values))
	for _, v := range values {
		quoted = append(quoted, "`"+v+"`")
	}
	return strings.Join(quoted, " or ")
}
