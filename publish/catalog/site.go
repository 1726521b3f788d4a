package catalog

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// missing is the page for objects that do not exist. robotsFile tells search engines which paths to skip. Both are
// at the top of a site.
const (
	missing    = "404.html"
	robotsFile = "robots.txt"
)

var (
	//go:embed page/tree.html
	treeText string
	//go:embed page/404.html
	missingText string
	//go:embed page/robots.txt
	robotsText []byte
)

// A Branch is one mirror in a tree of mirrors.
type Branch struct {
	Path     string `json:"path"`
	Packages int    `json:"packages"`
	Names    int    `json:"names"`
}

// tree is the document that is embedded in the page of a tree.
type tree struct {
	Format int           `json:"format"`
	Title  string        `json:"title"`
	Tree   []Branch      `json:"tree"`
	Files  []releaseFile `json:"files"`
	Style  string        `json:"style"`
	Made   string        `json:"made"`
}

// UpdateTree updates the page at the top of a tree of mirrors.
func UpdateTree(ctx context.Context, s Store, branches []Branch, o Options) (*Result, error) {
	was, version, err := readTree(ctx, s)
	if err != nil {
		return nil, err
	}
	files, err := releases(ctx, s)
	if err != nil {
		return nil, err
	}
	t := &tree{Format: format, Title: o.Title, Tree: append([]Branch{}, branches...), Files: files, Style: styleName}
	if t.Title == "" {
		if t.Title = "Spack buildcaches"; was != nil {
			t.Title = was.Title
		}
	}
	r := &Result{Stale: []string{}}
	for _, b := range branches {
		r.Packages += b.Packages
	}
	if was != nil && t.same(was) {
		r.Unchanged = true
		return r, nil
	}
	t.Made = o.Now.UTC().Format(time.RFC3339)
	style := assets()[1]
	if err := s.Create(ctx, style); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	page := htmlPage(Page, t.render())
	if _, err := s.Swap(ctx, page, version); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	r.Objects, r.Bytes, r.Stale = 1, page.Content.Size(), []string{Page}
	return r, nil
}

// UpdateBranch updates the numbers of one mirror in the page of a tree, if there is one.
func UpdateBranch(ctx context.Context, s Store, b Branch, o Options) (*Result, error) {
	was, _, err := readTree(ctx, s)
	if err != nil || was == nil {
		return nil, ignoreForeign(err)
	}
	branches := slices.DeleteFunc(slices.Clone(was.Tree), func(x Branch) bool { return x.Path == b.Path })
	branches = append(branches, b)
	slices.SortFunc(branches, func(x, y Branch) int { return strings.Compare(x.Path, y.Path) })
	return UpdateTree(ctx, s, branches, o)
}

// ignoreForeign drops ErrForeign: a page at the top that another program wrote is left alone.
func ignoreForeign(err error) error {
	if errors.Is(err, ErrForeign) {
		return nil
	}
	return err
}

func (t *tree) same(was *tree) bool {
	a, b := *t, *was
	a.Made, b.Made = "", ""
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// readTree returns the document in the page of a tree; nil if there is none.
func readTree(ctx context.Context, s mirror.Reader) (*tree, mirror.Version, error) {
	t := new(tree)
	version, ok, err := remembered(ctx, s, t)
	if err != nil || !ok || t.Format != format || t.Tree == nil {
		return nil, version, err
	}
	return t, version, nil
}

func htmlPage(name, text string) mirror.Upload {
	content := []byte(text)
	return mirror.Upload{Name: name, Content: blob.Bytes(content), Digest: blob.DigestOf(content), Type: "text/html; charset=utf-8", CacheControl: layout.Revalidate}
}

// render returns the page of a tree. The page needs no script.
func (t *tree) render() string {
	raw, err := json.Marshal(t)
	if err != nil {
		panic(err) // cannot happen: a tree has only texts and numbers
	}
	var mirrors, files strings.Builder
	for _, b := range t.Tree {
		fmt.Fprintf(&mirrors, "<tr><td><a href=\"%s/index.html\"><bdi>%s</bdi></a></td><td>%d</td><td>%d</td></tr>\n", html.EscapeString(link(b.Path)), html.EscapeString(shown(b.Path)), b.Packages, b.Names)
	}
	for _, f := range t.Files {
		more := ""
		for suffix, there := range map[string]bool{".asc": f.Signature, ".sha256": f.Checksum} {
			if there {
				more += fmt.Sprintf(" <a href=\"%s%s\">%s</a>", html.EscapeString(link(f.Name)), suffix, map[string]string{".asc": "signature", ".sha256": "checksum"}[suffix])
			}
		}
		if !f.Signature {
			more += " not signed"
		}
		fmt.Fprintf(&files, "<tr><td><a href=\"%s\"><bdi>%s</bdi></a></td><td>%d KiB</td><td>%s</td><td>%s</td></tr>\n", html.EscapeString(link(f.Name)), html.EscapeString(shown(f.Name)), (f.Bytes+1023)/1024, f.Day, more)
	}
	heading := ""
	if files.Len() > 0 {
		heading = "<h2>Files</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Files\"><table><thead><tr><th scope=\"col\">File</th><th scope=\"col\">Size</th><th scope=\"col\">Stored</th><th scope=\"col\">Checked by</th></tr></thead><tbody>\n" + files.String() + "</tbody></table></div>\n"
	}
	return strings.NewReplacer("{{title}}", html.EscapeString(t.Title), "{{style}}", html.EscapeString(t.Style), "{{stylesum}}", integrity(style),
		"{{made}}", html.EscapeString(t.Made), "{{mirrors}}", mirrors.String(), "{{files}}", heading, "{{catalog}}", fmt.Sprintf("%s%s%s", begins, raw, ends)).Replace(treeText)
}

// link returns a path below the page as a relative address. It begins with ./, so a browser never reads the
// beginning of a name as a scheme.
func link(path string) string { return "./" + (&url.URL{Path: path}).EscapedPath() }

// shown returns a name with invisible characters escaped, and those that change how other characters are displayed.
func shown(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c < 0x20 || c >= 0x7f && c < 0xa0 || c == 0xad || c >= 0x200b && c <= 0x200f || c >= 0x2028 && c <= 0x202e || c >= 0x2060 && c <= 0x206f || c == 0xfeff || c == '\uFFFD' {
			fmt.Fprintf(&b, `\u%04x`, c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Furnish writes robots.txt and the page for missing objects at the top of a site. Existing files are kept. It adds
// the new files to the result of the page at the top.
func Furnish(ctx context.Context, s Store, top *Result) error {
	robots := mirror.Upload{Name: robotsFile, Content: blob.Bytes(robotsText), Digest: blob.DigestOf(robotsText), Type: "text/plain; charset=utf-8", CacheControl: layout.Release}
	for _, u := range []mirror.Upload{htmlPage(missing, missingText), robots} {
		if _, err := s.Stat(ctx, u.Name); !errors.Is(err, mirror.ErrNotExist) {
			if err != nil {
				return fmt.Errorf("catalog: %w", err)
			}
			continue
		}
		if err := s.Create(ctx, u); err != nil && !errors.Is(err, mirror.ErrExist) {
			return fmt.Errorf("catalog: %w", err)
		}
		top.Objects++
		top.Bytes += u.Content.Size()
		top.Stale = append(top.Stale, u.Name)
		top.Unchanged = false
	}
	return nil
}
