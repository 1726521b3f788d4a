package session

import "strings"

// githubIssuer is the issuer of all tokens of github.com but those of enterprises that
// have chosen one of their own.
const githubIssuer = "https://token.actions.githubusercontent.com"

// trustPolicy is a trust policy that matches the job that a token was made for, and no
// other: with the subject in both shapes, since GitHub writes numbers into it as soon as
// a repository is renamed, transferred or opted in.
func trustPolicy(r *Role, c *Claims) string {
	issuer := host(c.Issuer)
	equal := map[string]any{
		issuer + ":aud": r.audience(),
		issuer + ":sub": subjects(c),
	}
	// AWS knows more claims than aud and sub of GitHub's own issuer only.
	if c.Issuer == githubIssuer && c.RepositoryID != "" {
		equal[issuer+":repository_id"] = c.RepositoryID
	}
	return document{"2012-10-17", []statement{{
		Effect:    "Allow",
		Principal: map[string]string{"Federated": providerARN(r, c)},
		Action:    "sts:AssumeRoleWithWebIdentity",
		Condition: conditions{"StringEquals": equal},
	}}}.marshal("  ")
}

// providerARN is the identity provider that the role's account needs for a token.
func providerARN(r *Role, c *Claims) string {
	return "arn:" + r.partition() + ":iam::" + r.Account() + ":oidc-provider/" + host(c.Issuer)
}

func host(issuer string) string { return strings.TrimPrefix(issuer, "https://") }

// subjects are the subject of a token in both shapes, by name and by name and number. A
// subject that was made by a template stays as it is.
func subjects(c *Claims) []string {
	owner, name, named := strings.Cut(c.Repository, "/")
	_, run, isRepo := cutSubject(c.Subject)
	if !named || !isRepo || c.RepositoryID == "" || c.RepositoryOwnerID == "" {
		return []string{c.Subject}
	}
	return []string{
		"repo:" + c.Repository + ":" + run,
		"repo:" + owner + "@" + c.RepositoryOwnerID + "/" + name + "@" + c.RepositoryID + ":" + run,
	}
}

// cutSubject takes repo:O/R:environment:E apart. GitHub writes a colon in a value as %3A.
func cutSubject(sub string) (repo, run string, ok bool) {
	rest, ok := strings.CutPrefix(sub, "repo:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}
