package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/spf13/cobra"

	"github.com/vantagecompute/slurm-factory-publish/infra"
	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
)

func newDestroy(e environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Delete the stack; the buckets and what is in them stay",
		Long: `Delete the stack; the buckets and what is in them stay.

It names what goes and what stays, and asks. A stack that is protected from termination
must be named as well: --allow removal:STACK. So must GitHub's identity provider, when
roles outside of the stack trust it: --allow removal:` + infra.GitHubIssuer + `.`,
		Args: noArguments,
	}
	t := newTool(cmd, e)
	force := cmd.Flags().BoolP("force", "f", false, "do not ask")
	allow := newAllow(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		s, err := t.online(ctx)
		if err != nil {
			return err
		}
		if s.live.status == "" {
			return hinted{fmt.Errorf("there is no stack %s in %s, so nothing was destroyed", s.StackName, infra.Region),
				"--stack-name, --name-prefix, --config and --profile name another"}
		}
		d, err := newDemolition(ctx, s)
		if err != nil {
			return err
		}
		d.announce(t.stderr)
		allow.warnUnused(t.stderr, func(name string) bool { return name == s.StackName || name == infra.GitHubIssuer })
		if err := d.permitted(allow); err != nil {
			return err
		}
		if !*force && !d.confirmed(t.environment) {
			fmt.Fprintln(t.stderr, "nothing was destroyed")
			return exitError(exitFailed)
		}
		if err := d.protect(ctx, false); err != nil {
			return err
		}
		if err := t.destroy(ctx, s); err != nil {
			// What was not deleted is protected again.
			if again := d.protect(context.WithoutCancel(ctx), true); again != nil {
				fmt.Fprintf(t.stderr, "warning: %v\n", again)
			}
			return err
		}
		d.farewell(t.stderr)
		return nil
	}
	return cmd
}

func (t *tool) destroy(ctx context.Context, s site) error {
	dir, err := t.synth(s.Config)
	if err != nil {
		return err
	}
	return t.cdk(ctx, dir, []string{"destroy", s.StackName, "--force"})
}

// A demolition is what becomes of each resource of a stack that is deleted.
type demolition struct {
	site
	cf           *cloudformation.Client
	goes, stays  []string // each "kind name"
	buckets      []string
	user         string
	signingKey   string // the ARN of the one that the stack made
	ownsProvider bool
	trusting     []string // roles outside of the stack that trust its provider
}

func newDemolition(ctx context.Context, s site) (*demolition, error) {
	d := &demolition{site: s, cf: cloudformation.NewFromConfig(s.aws)}
	if !s.live.exists() {
		return d, nil
	}
	stack, err := doctor.Read(ctx, d.cf, s.StackName)
	if err != nil {
		return nil, err
	}
	for _, id := range stack.Template.IDs() {
		r := stack.Template.Resources[id]
		name := either(stack.World.Ref[id], id)
		kind := r.Type[strings.LastIndexByte(r.Type, ':')+1:]
		if r.DeletionPolicy == "Retain" {
			d.stays = append(d.stays, kind+" "+name)
		} else {
			d.goes = append(d.goes, kind+" "+name)
		}
		switch r.Type {
		case "AWS::S3::Bucket":
			d.buckets = append(d.buckets, name)
		case "AWS::IAM::User":
			d.user = name
		case "AWS::KMS::Key":
			d.signingKey = stack.World.Attr[id]["Arn"]
		case "AWS::IAM::OIDCProvider":
			d.ownsProvider = r.DeletionPolicy != "Retain"
		}
	}
	if url := stack.Outputs["PublicUrl"]; url != "" {
		d.goes = append([]string{"the cache at " + url}, d.goes...)
	}
	if s.ReplicaRegion != "" {
		d.stays = append(d.stays, "Stack "+s.ReplicaStack()+" in "+s.ReplicaRegion)
	}
	if d.ownsProvider {
		if d.trusting, err = rolesThatTrust(ctx, s, stack.RoleNames()); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func either(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}

// rolesThatTrust lists the roles of the account, other than the stack's own, whose trust
// names GitHub's identity provider.
func rolesThatTrust(ctx context.Context, s site, own []string) ([]string, error) {
	var found []string
	pages := iam.NewListRolesPaginator(iam.NewFromConfig(s.aws), &iam.ListRolesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("look for other roles that trust %s: %w", infra.GitHubIssuer, err)
		}
		for _, r := range page.Roles {
			name := aws.ToString(r.RoleName)
			if strings.Contains(aws.ToString(r.AssumeRolePolicyDocument), infra.GitHubIssuer) && !slices.Contains(own, name) {
				found = append(found, name)
			}
		}
	}
	return found, nil
}

func (d *demolition) announce(w io.Writer) {
	if len(d.goes) > 0 {
		fmt.Fprintf(w, "goes with stack %s in account %s:\n  %s\n", d.StackName, d.Account, strings.Join(d.goes, "\n  "))
	}
	if len(d.stays) > 0 {
		fmt.Fprintf(w, "stays, with what is in it:\n  %s\n", strings.Join(d.stays, "\n  "))
	}
}

// permitted refuses what must be named. A stack whose creation failed holds nothing.
func (d *demolition) permitted(allow *allowed) error {
	if d.live.exists() && d.live.protected && !allow.has(d.StackName) {
		return hinted{fmt.Errorf("stack %s is protected from termination", d.StackName), "infra destroy " + asFlag(removalOf+d.StackName)}
	}
	if len(d.trusting) > 0 && !allow.has(infra.GitHubIssuer) {
		return hinted{fmt.Errorf("the stack owns the account's identity provider for GitHub, which other roles trust: %s", strings.Join(d.trusting, ", ")),
			"they would stop working; --allow " + removalOf + infra.GitHubIssuer + " deletes it all the same"}
	}
	return nil
}

func (d *demolition) confirmed(e environment) bool {
	fmt.Fprintf(e.stderr, "Destroy stack %s in account %s? Readers lose the cache until it is deployed again. [y/N] ", d.StackName, d.Account)
	line, _ := bufio.NewReader(e.stdin).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// protect turns the termination protection of a protected stack off, and on again.
func (d *demolition) protect(ctx context.Context, on bool) error {
	if !d.live.protected {
		return nil
	}
	_, err := d.cf.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{
		StackName: aws.String(d.StackName), EnableTerminationProtection: aws.Bool(on)})
	if noSuchStack(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set the termination protection of stack %s to %t: %w", d.StackName, on, err)
	}
	return nil
}

// farewell says what is left, how to get it back, and how to be rid of it.
func (d *demolition) farewell(w io.Writer) {
	for _, bucket := range d.buckets {
		fmt.Fprintf(w, "retained: s3://%s, with all that is in it\n", bucket)
	}
	if len(d.buckets) > 0 {
		fmt.Fprintf(w, "infra deploy with the same settings adopts them; to delete them for good, empty them and run\n")
		for _, bucket := range d.buckets {
			fmt.Fprintf(w, "  aws s3api delete-bucket --bucket %s\n", bucket)
		}
	}
	if d.user != "" {
		fmt.Fprintf(w, "retained too: the IAM user %s, without any right; deploy adopts the user again\n", d.user)
	}
	if d.signingKey != "" {
		fmt.Fprintf(w, "retained too: the signing key %[1]s, which costs $1 a month;\n"+
			"infra deploy --signing-key %[1]s signs with it again, where new makes another key; to delete it for good, with no way back after 30 days\n"+
			"  aws kms schedule-key-deletion --pending-window-in-days 30 --key-id %[1]s\n", d.signingKey)
	}
	if d.ReplicaRegion != "" {
		fmt.Fprint(w, "retained too: "+theReplica(d.Config, d.ReplicaRegion))
	}
	if d.ownsProvider {
		fmt.Fprintln(w, "deleted with the stack: the account's OIDC provider for GitHub; other roles that trusted it stop working")
	}
	if len(d.live.settings) > 0 {
		settings := maps.Clone(d.live.settings)
		if d.signingKey != "" {
			settings["signing-key"] = []string{d.signingKey} // new would make another
		}
		fmt.Fprintf(w, "the settings went with the stack. To deploy it as it was, infra deploy --config FILE with a file of\n%s", asFile(settings))
	}
}
