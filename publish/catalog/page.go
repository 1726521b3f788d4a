package catalog

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

var (
	//go:embed page/app.js
	script []byte
	//go:embed page/app.css
	style []byte
	//go:embed page/index.html
	pageText string

	scriptName = Parts + blob.DigestOf(script).String() + ".js"
	styleName  = Parts + blob.DigestOf(style).String() + ".css"
)

// begins and ends enclose the pointer in the page. The pointer contains neither, because encoding/json writes < as
// \u003c.
var (
	begins = []byte(`<script type="application/json" id="catalog">`)
	ends   = []byte(`</script>`)
)

// embedded returns the pointer in a page.
func embedded(text []byte) ([]byte, bool) {
	_, rest, ok := bytes.Cut(text, begins)
	if !ok {
		return nil, false
	}
	raw, _, ok := bytes.Cut(rest, ends)
	return raw, ok
}

// assets returns the uploads of script and style.
func assets() []mirror.Upload {
	upload := func(name string, content []byte, kind string) mirror.Upload {
		return mirror.Upload{Name: name, Content: blob.Bytes(content), Digest: blob.DigestOf(content), Type: kind, CacheControl: layout.Immutable}
	}
	return []mirror.Upload{upload(scriptName, script, "text/javascript; charset=utf-8"), upload(styleName, style, "text/css; charset=utf-8")}
}

// integrity returns the hash that a browser compares a script or style with.
func integrity(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func render(t *table) ([]byte, error) {
	raw, err := json.Marshal(t.pointer)
	if err != nil {
		return nil, err
	}
	// html/template finds methods by name, so the linker would keep every method of the program: half as much
	// again.
	values := []string{"{{catalog}}", fmt.Sprintf("%s%s%s", begins, raw, ends)} // encoding/json has escaped the characters that HTML interprets
	for name, value := range map[string]any{
		"title": t.pointer.Title, "packages": t.pointer.Packages, "names": t.pointer.Names, "made": t.pointer.Made,
		"script": t.pointer.Script, "scriptsum": integrity(script), "style": t.pointer.Style, "stylesum": integrity(style),
	} {
		values = append(values, "{{"+name+"}}", html.EscapeString(fmt.Sprint(value)))
	}
	return []byte(strings.NewReplacer(values...).Replace(pageText)), nil
}
