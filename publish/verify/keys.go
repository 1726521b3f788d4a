package verify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/go-json-experiment/json"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

// checkSignature checks the signature of a package.
func (c *check) checkSignature(p *buildcache.Package) {
	if by, ok := p.Issuer(); ok {
		c.mu.Lock()
		if c.signed == nil {
			c.signed = make(map[key.Issuer]int)
		}
		c.signed[by]++
		c.mu.Unlock()
	}
	switch {
	case !p.Signed && c.Trust.RequireSigned:
		c.damage(p.File, "it is %v", key.ErrUnsigned)
	case p.Signed && c.Trust.Keys != nil:
		if _, err := c.Trust.Keys.Verify(p.Document); err != nil {
			c.damage(p.File, "%v", err)
		}
	case p.Signed:
		if _, err := c.own.Verify(p.Document); errors.Is(err, key.ErrContent) {
			c.damage(p.File, "%v", err)
		}
	}
}

// reportKeys reports findings about keys that sign packages, once these are known.
func (c *check) reportKeys(now time.Time) {
	if !c.unread {
		c.reportUncheckable()
	}
	c.reportSpent(now)
}

// checkKeys checks the public keys, and that clients are offered exactly these.
func (c *check) checkKeys(ctx context.Context) error {
	indexName := c.KeyIndexName()
	var listed []key.Fingerprint
	for name := range c.listed {
		if f, ok := c.ParseKeyName(name); ok {
			listed = append(listed, f)
		}
	}
	named, err := c.namedKeys(ctx, indexName)
	known := err == nil
	unread := false // the offered keys are unknown, which has been reported
	switch {
	case err == nil:
	case !c.exists(ctx, indexName):
		if len(listed) > 0 {
			c.damage(indexName, "it is not there, so clients do not learn of %d keys: run publish index", len(listed))
		}
	default:
		unread = true
		c.damage(indexName, "%v", err)
	}
	err = parallel.Each(ctx, keysAtOnce, buildcache.UnionKeys(listed, named), func(ctx context.Context, f key.Fingerprint) error {
		isListed, isNamed := slices.Contains(listed, f), slices.Contains(named, f)
		err := c.readKey(ctx, f)
		switch {
		case err != nil && !isListed && c.reader.absent(err):
			c.damage(indexName, "it names the key %s: %v", f, err)
		case err != nil:
			c.damage(c.KeyName(f), "%v", err)
		}
		reason, retired := c.Trust.Untrusted(f), c.retired(f)
		switch {
		case retired && known && !isNamed: // clients do not get it
		case reason != "" && (isListed || err == nil):
			c.damage(c.KeyName(f), "%s", reason)
		case retired && isNamed:
			c.report(buildcache.Warning, indexName, "it names the key %s, which was retired: run publish index", f)
		case isListed && known && !isNamed:
			c.damage(indexName, "it does not name the key %s, so clients do not learn of it: run publish index", f)
		}
		c.verifier.mu.Lock()
		defer c.verifier.mu.Unlock()
		unread = unread || err != nil
		if isListed || err == nil {
			c.keys[f] = true
		}
		return context.Cause(ctx)
	})
	c.unread, c.own = unread, new(key.Ring)
	for _, p := range c.publics {
		c.own = c.own.With(p)
	}
	return err
}

// retired reports whether a key is marked as no longer offered.
func (c *check) retired(f key.Fingerprint) bool {
	seen := buildcache.Survey{Objects: c.listed}
	return seen.Retired(c.Layout, f)
}

// reportSpent warns of signing keys that are revoked, have expired or expire soon, or whose subkeys do. Clients
// still accept their signatures: gpg prints a note and exits 0.
func (c *check) reportSpent(now time.Time) {
	const advice = "extend it (gpg --quick-set-expire, for subkeys with '*') and publish it again (publish keys add), or rotate it (publish keys rotate)"
	for _, p := range c.publics {
		name := c.KeyName(p.Fingerprint())
		for by := range c.signed {
			if !p.Made(by) {
				continue
			}
			revoked, expires := p.RevocationOf(by), p.ExpiryOf(by)
			which := "it"
			if sub := p.Subkey(by); sub != "" && (!revoked.IsZero() && p.Revoked().IsZero() || revoked.IsZero() && !expires.Equal(p.Expires())) {
				which = "its subkey " + string(sub)
			} else if !revoked.IsZero() {
				revoked = p.Revoked()
			}
			day := expires.UTC().Format(time.DateOnly)
			switch {
			case !revoked.IsZero():
				c.report(buildcache.Warning, name, "%s was revoked on %s, and clients accept what it has signed all the same, until they remove the key (spack gpg untrust): sign with another key (docs/signing.md, when a key is no longer secret)",
					which, revoked.UTC().Format(time.DateOnly))
			case expires.IsZero() || expires.Sub(now) > key.ExpiresSoon:
			case expires.Before(now):
				c.report(buildcache.Warning, name, "%s expired on %s: it can sign no more, and clients accept what it has signed: %s", which, day, advice)
			default:
				c.report(buildcache.Warning, name, "%s expires on %s: %s", which, day, advice)
			}
		}
	}
}

// reportUncheckable warns of packages signed by a key that the mirror does not offer. Clients may have it from
// elsewhere.
func (c *check) reportUncheckable() {
	_, dir := c.Directories()
	for by, n := range c.signed {
		if i := slices.IndexFunc(c.publics, func(p *key.Public) bool { return p.Made(by) }); i >= 0 {
			if f := c.publics[i].Fingerprint(); c.retired(f) {
				c.report(buildcache.Warning, c.KeyName(f), "clients that know only the keys of this mirror cannot check the signatures of %s: this key was retired, and publish keys add offers it again",
					english.Plural(n, "package", ""))
			}
		} else {
			c.report(buildcache.Warning, strings.TrimSuffix(dir, "/"), "clients that know only the keys of this mirror cannot check the signatures of %s: it lacks the key %s",
				english.Plural(n, "package", ""), by)
		}
	}
}

func (c *check) exists(ctx context.Context, name string) bool {
	if c.listed != nil {
		if _, ok := c.listed[name]; ok {
			return true
		}
	}
	_, err := c.reader.Stat(ctx, name)
	return err == nil
}

// namedKeys reads the index of keys, which may be empty.
func (c *check) namedKeys(ctx context.Context, name string) ([]key.Fingerprint, error) {
	content, err := c.behind(ctx, name, manifest.KeyIndex)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Keys map[string]struct{} `json:"keys"`
	}
	if json.Unmarshal(content, &doc) == nil && doc.Keys != nil && len(doc.Keys) == 0 {
		return nil, nil
	}
	return buildcache.ParseKeyIndex(content)
}

func (c *check) readKey(ctx context.Context, f key.Fingerprint) error {
	armored, err := c.behind(ctx, c.KeyName(f), manifest.Key)
	if err != nil {
		return err
	}
	p, err := buildcache.CheckKeyFile(armored, f)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publics = append(c.publics, p)
	return nil
}

// behind reads an object or, if it is a pointer, the blob that it refers to.
func (c *check) behind(ctx context.Context, name string, f manifest.Family) ([]byte, error) {
	b, apart, err := c.Resolve(ctx, c.reader, name, f)
	if err != nil {
		return nil, err
	}
	if !apart {
		content, _, err := mirror.Read(ctx, c.reader, name, buildcache.MaxKeys)
		return content, err
	}
	return c.content(ctx, name, b, buildcache.MaxKeys)
}
