package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// provider asks whether GitHub's identity provider is there and takes our audience.
func (d Doctor) provider(ctx context.Context) ([]Finding, error) {
	const check = "oidc provider"
	roles, err := d.Stack.roles()
	if err != nil {
		return nil, err
	}
	var arn string
	for _, r := range roles {
		for _, st := range r.trust.Statement {
			// The roles of the indexer and of replication trust services of AWS instead.
			if of := strings.Join(st.Principal["Federated"], ""); of != "" {
				arn = of
			}
		}
	}
	out, err := d.IAM.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(arn)})
	if code(err) == "NoSuchEntity" {
		return []Finding{broken(check, "`aws iam create-open-id-connect-provider --url https://token.actions.githubusercontent.com --client-id-list sts.amazonaws.com` makes it again, as the stack had it",
			"%s does not exist: no workflow can sign in", arn)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", arn, err)
	}
	if !slices.Contains(out.ClientIDList, "sts.amazonaws.com") {
		return []Finding{broken(check, "`aws iam add-client-id-to-open-id-connect-provider --client-id sts.amazonaws.com --open-id-connect-provider-arn "+arn+"`",
			"%s does not accept the audience sts.amazonaws.com", arn)}, nil
	}
	return well(check, "%s accepts sts.amazonaws.com", arn), nil
}

// roles compares the trust and the permissions of each role with the stack's.
func (d Doctor) roles(ctx context.Context) ([]Finding, error) {
	roles, err := d.Stack.roles()
	if err != nil {
		return nil, err
	}
	var all []Finding
	for _, r := range roles {
		found, err := d.role(ctx, r)
		if err != nil {
			found = append(found, unexamined("role "+r.name, err))
		}
		all = append(all, orWell(found, "role "+r.name, "trust and permissions are the stack's")...)
	}
	return all, nil
}

func (d Doctor) role(ctx context.Context, want role) ([]Finding, error) {
	check := "role " + want.name
	out, err := d.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(want.name)})
	if code(err) == "NoSuchEntity" {
		return []Finding{broken(check, remake, "it does not exist")}, nil
	}
	if err != nil {
		return nil, err
	}
	var found []Finding
	trust, err := parseURLEncoded(aws.ToString(out.Role.AssumeRolePolicyDocument))
	switch {
	case errors.Is(err, policy.ErrNotModelled):
		found = append(found, broken(check, redeploy, "its trust policy was changed by hand: %v", err))
	case err != nil:
		return nil, err
	case !alike(trust, want.trust):
		found = append(found, broken(check, redeploy, "its trust policy was changed: %s", difference(trust, want.trust)))
	}
	if len(widest(want.trust)) > 0 {
		found = append(found, doubtful(check, "scope it: infra deploy --environment NAME, or --ref",
			"it trusts every run of the repository: %s", strings.Join(widest(want.trust), ", ")))
	}
	found = append(found, nameless(check, want.trust)...)
	found = append(found, unbounded(check, out.Role.PermissionsBoundary, want.boundary)...)
	permissions, err := d.permissions(ctx, want)
	return append(found, permissions...), err
}

// unbounded says of a role or user that it lacks the permissions boundary of the stack.
func unbounded(check string, have *iamtypes.AttachedPermissionsBoundary, want string) []Finding {
	if want == "" || have != nil && aws.ToString(have.PermissionsBoundaryArn) == want {
		return nil
	}
	return []Finding{broken(check, redeploy, "it does not have the permissions boundary %s", want)}
}

// permissions compares the inline policies and looks for attached ones, which the
// stack never makes.
func (d Doctor) permissions(ctx context.Context, want role) ([]Finding, error) {
	check := "role " + want.name
	name := aws.String(want.name)
	var found []Finding
	listed, err := d.IAM.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: name})
	if err != nil {
		return nil, err
	}
	for _, policyName := range slices.Sorted(maps.Keys(want.inline)) {
		if !slices.Contains(listed.PolicyNames, policyName) {
			found = append(found, broken(check, redeploy, "its policy %s is missing: publishing is denied", policyName))
			continue
		}
		live, err := d.IAM.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: name, PolicyName: aws.String(policyName)})
		if err != nil {
			return nil, err
		}
		doc, err := parseURLEncoded(aws.ToString(live.PolicyDocument))
		switch {
		case errors.Is(err, policy.ErrNotModelled):
			found = append(found, broken(check, redeploy, "its policy %s was changed by hand: %v", policyName, err))
		case err != nil:
			return nil, err
		case !alike(doc, want.inline[policyName]):
			found = append(found, broken(check, redeploy, "its policy %s was changed: %s", policyName, difference(doc, want.inline[policyName])))
		}
	}
	for _, policyName := range listed.PolicyNames {
		if _, ok := want.inline[policyName]; !ok {
			found = append(found, broken(check, "`aws iam delete-role-policy --role-name "+want.name+" --policy-name "+policyName+"`",
				"it has the policy %s, which the stack does not know", policyName))
		}
	}
	attached, err := d.IAM.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: name})
	if err != nil {
		return nil, err
	}
	for _, p := range attached.AttachedPolicies {
		found = append(found, broken(check, "`aws iam detach-role-policy --role-name "+want.name+" --policy-arn "+aws.ToString(p.PolicyArn)+"`",
			"%s is attached to it, which the stack does not know", aws.ToString(p.PolicyArn)))
	}
	return found, nil
}

// parseURLEncoded reads a policy as IAM's API returns it.
func parseURLEncoded(text string) (policy.Document, error) {
	plain, err := unescaped(text)
	if err != nil {
		return policy.Document{}, err
	}
	return policy.Parse(plain)
}

func unescaped(text string) ([]byte, error) {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return nil, fmt.Errorf("policy document: %w", err)
	}
	return []byte(plain), nil
}

// widest are the subjects of a trust policy that name a repository and nothing more, or
// any branch or tag of it.
func widest(trust policy.Document) []string {
	var found []string
	for _, st := range trust.Statement {
		for key, subjects := range st.Condition["StringLike"] {
			for _, s := range subjects {
				_, ref, _ := strings.Cut(s, ":ref:")
				if strings.HasSuffix(key, ":sub") && (strings.HasSuffix(s, ":*") || policy.Wide(ref)) {
					found = append(found, s)
				}
			}
		}
	}
	return found
}

// alike compares what documents say, not how: the order of lists means nothing.
func alike(a, b policy.Document) bool { return canonical(a) == canonical(b) }

// canonical writes a document so that equal ones have equal text. The fmt of maps and
// of JSON objects is sorted by key.
func canonical(d policy.Document) string {
	statements := make([]string, 0, len(d.Statement))
	for _, st := range d.Statement {
		st.Action = slices.Sorted(slices.Values(st.Action))
		st.NotAction = slices.Sorted(slices.Values(st.NotAction))
		st.Resource = slices.Sorted(slices.Values(st.Resource))
		st.Condition = sortedCondition(st.Condition)
		b, _ := json.Marshal(st)
		statements = append(statements, string(b))
	}
	slices.Sort(statements)
	return strings.Join(statements, "\n")
}

func sortedCondition(c policy.Condition) policy.Condition {
	out := policy.Condition{}
	for op, byKey := range c {
		out[op] = map[string]policy.Strings{}
		for key, values := range byKey {
			out[op][key] = slices.Sorted(slices.Values(values))
		}
	}
	return out
}

// difference names the statements that are only on one side.
func difference(live, want policy.Document) string {
	have, should := strings.Split(canonical(live), "\n"), strings.Split(canonical(want), "\n")
	var parts []string
	for _, s := range have {
		if s != "" && !slices.Contains(should, s) {
			parts = append(parts, "not the stack's: "+s)
		}
	}
	for _, s := range should {
		if s != "" && !slices.Contains(have, s) {
			parts = append(parts, "missing: "+s)
		}
	}
	return strings.Join(parts, "; ")
}
