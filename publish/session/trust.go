package session

import "strings"

// githubIssuer is the issuer of all tokens of github.com, except those of enterprises with an issuer of their own.
const githubIssuer = "https://token.actions.githubusercontent.com"

// trustPolicy returns a trust policy that matches the job of a token and no other. It has the subject in both
// forms, because GitHub adds numbers to it as soon as a repository is renamed, transferred or opted in.
func trustPolicy(r *Role, c *Claims) string {
	issuer := host(c.Issuer)
	equal := map[string]any{
		issuer + ":aud": r.audience(),
		issuer + ":sub": subjects(c),
	}
	// For issuers other than GitHub's own, AWS knows only the claims aud and sub.
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

// providerARN returns the ARN of the identity provider that the role's account needs for a token.
func providerARN(r *Role, c *Claims) string {
	return "arn:" + r.partition() + ":iam::" + r.Account() + ":oidc-provider/" + host(c.Issuer)
}

func host(issuer string) string { return strings.TrimPrefix(issuer, "https://") }

// subjects returns the subject of a token in both forms, by name and by name and number. A subject made by a
// template stays as it is.
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

// cutSubject splits repo:O/R:environment:E. GitHub writes a colon in a value as %3A.
func cutSubject(sub string) (repo, run string, ok bool) {
	rest, ok := strings.CutPrefix(sub, "repo:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}
