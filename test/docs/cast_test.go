package docs

import (
	"encoding/xml"
	goflag "flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = goflag.Bool("update", false, "write pictures that are made from what the program prints")

// shown are the commands of the picture.
var shown = []string{
	"publish ./buildcache s3://my-cache/noble/spack",
	"publish ./buildcache s3://my-cache/noble/spack",
	"publish verify s3://my-cache/noble/spack",
}

// The picture of a publish in the README is what the program prints on a terminal. It is made by this test:
// go test ./docs -run TestThePicture -update, in the directory test.
func TestThePictureOfAPublishIsTrue(t *testing.T) {
	p := newPlace(t)
	var b strings.Builder
	for _, command := range shown {
		b.WriteString("\x1b[1m$ " + command + "\x1b[0m\n" + p.onTerminal(t, command) + "\n")
	}
	got := svg("Publishing a Spack buildcache", strings.Split(strings.TrimRight(b.String(), "\n"), "\n"))
	if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
		t.Errorf("the picture is no XML: %v", err)
	}
	for _, want := range []string{"plan", "blobs", "index", "0 -&gt; 11 packages", "published 11 packages", "no damage"} {
		if !strings.Contains(got, want) {
			t.Errorf("the picture does not show %q:\n%s", want, b.String())
		}
	}
	const name = "../../docs/images/publish.svg"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(name)
	if err != nil || string(is) != got {
		t.Errorf("%s is not what the program prints: run this test with -update. It prints\n%s%v", name, b.String(), err)
	}
	if !strings.Contains(pages(t)["README.md"], "](docs/images/publish.svg)") {
		t.Error("the README does not show the picture")
	}
}

var (
	passing = regexp.MustCompile(`(?m)^.*\[[=>-]+\].*\n|\x1b\[\d*[AJ]|\r`) // bars, and what moves the cursor
	seconds = regexp.MustCompile(`\d+\.\d s`)
	address = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	asWhom  = regexp.MustCompile(`(?s)^([^\n]*\n)(.*?)(with the access key [^\n]*\n)`) // which is known sooner or later
)

// onTerminal runs a command on a terminal of 80 columns and returns what stays there, with the times and the address of
// the server, which differ from run to run, replaced.
func (p *place) onTerminal(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.Command("script", "-qefc", "stty cols 80 rows 40; "+command, filepath.Join(t.TempDir(), "log"))
	cmd.Dir = p.dir
	cmd.Env = append(p.server.Environ(), "AWS_ENDPOINT_URL="+p.server.Endpoint, "PATH="+p.path+":"+os.Getenv("PATH"), "TERM=xterm")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	text := passing.ReplaceAllString(string(out), "")
	text = asWhom.ReplaceAllString(strings.ReplaceAll(text, p.dir+"/", "./"), "$1$3$2")
	text = strings.ReplaceAll(text, "access key "+p.server.Access, "access key minioadmin")
	return address.ReplaceAllString(seconds.ReplaceAllString(text, "0.1 s"), "http://minio:9000")
}

const (
	lineHeight = 19
	letter     = 8.0 // pixels
	columns    = 115
)

// svg draws lines of a terminal, with bold, faint and coloured text.
func svg(title string, lines []string) string {
	var b strings.Builder
	width, height := int(columns*letter), len(lines)*lineHeight+48
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">
<title>%s</title>
<style>text { font: 13.3px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #e6edf3; white-space: pre } .b { font-weight: bold } .f { opacity: 0.6 } .g { fill: #3fb950 } .r { fill: #ff7b72 } .y { fill: #d29922 }</style>
<rect width="%[1]d" height="%[2]d" rx="8" fill="#0d1117"/>
<circle cx="18" cy="16" r="5" fill="#ff5f57"/><circle cx="36" cy="16" r="5" fill="#febc2e"/><circle cx="54" cy="16" r="5" fill="#28c840"/>
`, width, height, title)
	for i, l := range lines {
		if l != "" {
			fmt.Fprintf(&b, "<text x=\"12\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", 46+i*lineHeight, spans(l))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

var (
	looks  = map[string]string{"1": "b", "2": "f", "32": "g", "33": "y", "31": "r", "1;31": "b r"}
	styled = regexp.MustCompile("\x1b\\[([0-9;]+)m(.*?)\x1b\\[0m")
	markup = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
)

// spans is a line with its looks as elements.
func spans(line string) string {
	return styled.ReplaceAllStringFunc(markup.Replace(line), func(part string) string {
		m := styled.FindStringSubmatch(part)
		return `<tspan class="` + looks[m[1]] + `">` + m[2] + `</tspan>`
	})
}
