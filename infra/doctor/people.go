package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// maxKeyAge is how old an access key of the manual user may be: it is made for a task
// and deleted after it.
const maxKeyAge = 90 * 24 * time.Hour

// users examines the manual user: its policy, its access keys, and whether it has the
// MFA device without which it may only read and upload.
func (d Doctor) users(ctx context.Context) ([]Finding, error) {
	var all []Finding
	for _, id := range d.Stack.Template.OfType("AWS::IAM::User") {
		name := d.Stack.World.Ref[id]
		check := "user " + name
		out, err := d.IAM.GetUser(ctx, &iam.GetUserInput{UserName: &name})
		if code(err) == "NoSuchEntity" {
			all = append(all, broken(check, remake, "it does not exist"))
			continue
		}
		boundary, unresolved := d.Stack.boundaryOf(d.Stack.Template.Resources[id].Properties)
		var found []Finding
		if err := errors.Join(err, unresolved); err != nil {
			found = append(found, unexamined(check, err))
		} else {
			found = unbounded(check, out.User.PermissionsBoundary, boundary)
		}
		for _, look := range []func(context.Context, string, string) ([]Finding, error){d.userPolicy, d.otherRights, d.accessKeys, d.devices} {
			one, err := look(ctx, check, name)
			found = append(found, one...)
			if err != nil {
				found = append(found, unexamined(check, err))
			}
		}
		all = append(all, orWell(found, check, "its policy is the stack's, it has an MFA device and no old access key")...)
	}
	return all, nil
}

// userPolicies are the policies that the stack gives a user, by name.
func (s Stack) userPolicies(user string) (map[string]policy.Document, error) {
	all := map[string]policy.Document{}
	for _, id := range s.Template.OfType("AWS::IAM::Policy") {
		p := s.Template.Resources[id].Properties
		users, err := s.Template.Resolve(p["Users"], s.World)
		if err != nil {
			return nil, err
		}
		list, _ := users.([]any)
		for _, u := range list {
			if u != user {
				continue
			}
			if all[fmt.Sprint(p["PolicyName"])], err = s.documentOf(p["PolicyDocument"]); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func (d Doctor) userPolicy(ctx context.Context, check, user string) ([]Finding, error) {
	policies, err := d.Stack.userPolicies(user)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for name, want := range policies {
		out, err := d.IAM.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &user, PolicyName: &name})
		if code(err) == "NoSuchEntity" {
			found = append(found, broken(check, setUserPolicy(user, name, want), "its policy %s is missing", name))
			continue
		}
		if err != nil {
			return found, fmt.Errorf("get policy %s: %w", name, err)
		}
		live, err := unescaped(aws.ToString(out.PolicyDocument))
		if err != nil {
			return found, err
		}
		one, err := compared(check, "its policy "+name, live, want)
		if err != nil {
			return found, err
		}
		for _, f := range one {
			f.Fix = setUserPolicy(user, name, want)
			found = append(found, f)
		}
	}
	return found, nil
}

// otherRights finds policies that the user has beside the stack's. They may be meant:
// the stack adopts a user that exists.
func (d Doctor) otherRights(ctx context.Context, check, user string) ([]Finding, error) {
	policies, err := d.Stack.userPolicies(user)
	if err != nil {
		return nil, err
	}
	inline, err := d.IAM.ListUserPolicies(ctx, &iam.ListUserPoliciesInput{UserName: &user})
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	attached, err := d.IAM.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: &user})
	if err != nil {
		return nil, fmt.Errorf("list attached policies: %w", err)
	}
	var found []Finding
	for _, name := range inline.PolicyNames {
		if _, ok := policies[name]; !ok {
			found = append(found, doubtful(check, "`aws iam delete-user-policy --user-name "+user+" --policy-name "+name+"`, unless it is meant",
				"it has the policy %s, which the stack does not know", name))
		}
	}
	for _, p := range attached.AttachedPolicies {
		arn := aws.ToString(p.PolicyArn)
		found = append(found, doubtful(check, "`aws iam detach-user-policy --user-name "+user+" --policy-arn "+arn+"`, unless it is meant",
			"%s is attached to it, which the stack does not know", arn))
	}
	return found, nil
}

func (d Doctor) accessKeys(ctx context.Context, check, user string) ([]Finding, error) {
	var found []Finding
	pages := iam.NewListAccessKeysPaginator(d.IAM, &iam.ListAccessKeysInput{UserName: &user})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return found, fmt.Errorf("list access keys: %w", err)
		}
		for _, k := range page.AccessKeyMetadata {
			age := d.Now().Sub(aws.ToTime(k.CreateDate))
			if k.Status != iamtypes.StatusTypeActive || age < maxKeyAge {
				continue
			}
			id := aws.ToString(k.AccessKeyId)
			found = append(found, doubtful(check, "`aws iam delete-access-key --user-name "+user+" --access-key-id "+id+"`; make a new one when it is needed",
				"its access key %s is %d days old%s", id, int(age.Hours()/24), d.lastUsed(ctx, id)))
		}
	}
	return found, nil
}

// lastUsed says when a key was used last, where that can be read.
func (d Doctor) lastUsed(ctx context.Context, key string) string {
	out, err := d.IAM.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &key})
	switch {
	case err != nil || out.AccessKeyLastUsed == nil:
		return ""
	case out.AccessKeyLastUsed.LastUsedDate == nil:
		return " and was never used"
	}
	return " and was last used on " + out.AccessKeyLastUsed.LastUsedDate.Format(time.DateOnly)
}

func (d Doctor) devices(ctx context.Context, check, user string) ([]Finding, error) {
	out, err := d.IAM.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: &user})
	if err != nil {
		return nil, fmt.Errorf("list MFA devices: %w", err)
	}
	if len(out.MFADevices) == 0 {
		return []Finding{doubtful(check, "aws iam create-virtual-mfa-device, then aws iam enable-mfa-device --user-name "+user,
			"it has no MFA device: in an emergency it can upload, but delete and repair nothing")}, nil
	}
	return nil, nil
}
