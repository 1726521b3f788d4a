package api_test

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/daemon"
	"github.com/vantagecompute/slurm-factory-publish/publish/daemon/api"
	"github.com/vantagecompute/slurm-factory-publish/publish/events"
	"github.com/vantagecompute/slurm-factory-publish/publish/queue"
)

// hostile are packages, paths and reasons that would like to be more than words.
var hostile = []string{
	`<script>alert(1)</script>`, `</td></tr></table><img src=x onerror=alert(1)>`, `" onmouseover="alert(1)`, `' autofocus onfocus='alert(1)`,
	`<b>`, `<!--`, `-->`, `]]>`, `<![CDATA[`, `<?php`, `&lt;b&gt;`, `&amp`, `&#60;script&#62;`, `&`, `<`, `>`, `"`, `'`, "`", `{{.}}`, `${1}`, `javascript:alert(1)`,
	`</main><main id="live">`, `<svg/onload=alert(1)>`, `<a href="//evil.example.org">`, "\u2028\u202egnp.exe", `%3Cscript%3E`, `a\"b`, `=`, "two\nlines", "ünïcödé",
}

// said are all elements with their attributes, and all words, of what is well-formed.
func said(t *testing.T, markup string) (elements, words []string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader("<main>" + markup + "</main>")); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements, words
		}
		if err != nil {
			t.Fatalf("%v in %s", err, markup)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := token.Name.Local
			for _, a := range token.Attr {
				e += " " + a.Name.Local
				if a.Name.Local == "title" {
					words = append(words, a.Value)
				}
			}
			elements = append(elements, e)
		case xml.CharData:
			words = append(words, string(token))
		case xml.Comment, xml.ProcInst, xml.Directive:
			t.Errorf("%T in %s", token, markup)
		}
	}
}

// full is a status that names x wherever a status names something that others have named.
func full(x string) daemon.Status {
	at := time.Unix(1e9, 0).UTC()
	job := queue.Job{ID: 1, Mirror: "m" + x, File: "f" + x, Package: "p" + x, Reason: "r" + x, Changed: at}
	return daemon.Status{
		At: at, Since: at, Problem: "b" + x,
		Mirrors: []daemon.MirrorStatus{{
			Name: "n" + x, Source: "s" + x, Destination: "d" + x, Paused: "w" + x, PauseUntil: &at, Published: &at, Invalidated: &at, Oldest: &at, Waiting: 1,
			Last:    &daemon.LastRun{Packages: 1},
			Indices: []daemon.IndexStatus{{Path: "i" + x, Layout: "l" + x, Bytes: 1}},
			Running: []daemon.Sending{{Step: "t" + x, Total: 2, Sent: 1, Left: 1, Transfers: []daemon.Transfer{{Name: "o" + x}}}},
		}},
		Failed: []queue.Job{job}, Recent: []queue.Job{job},
		Stuck:       []daemon.StuckPackage{{Mirror: "m" + x, File: "f" + x, Package: "p" + x, Reason: "r" + x}, {File: "g" + x}},
		Incomplete:  []daemon.StuckPackage{{Mirror: "m" + x, File: "f" + x, Package: "p" + x, Reason: "r" + x}, {File: "g" + x}},
		Obligations: []queue.Obligation{{Mirror: "m" + x, Reason: "r" + x}},
	}
}

// fullIndexer is the same of an indexer.
func fullIndexer(x string) events.Status {
	at := time.Unix(1e9, 0).UTC()
	letter := events.Letter{ID: "p" + x, Object: "f" + x, Stored: &at, At: at, Again: &at, Reason: "r" + x}
	return events.Status{
		At: at, Since: at, Problem: "b" + x,
		Queue: events.QueueStatus{Address: "s" + x, Error: "d" + x, Answered: &at, Oldest: &at, Held: 1},
		Mirrors: []events.MirrorStatus{{
			Name: "n" + x, Working: &at, Switched: &at, Invalidated: &at, Healed: &at,
			Last:    &events.LastUpdate{At: at, Error: "w" + x, Lag: 1, Left: 1},
			Indices: []events.IndexStatus{{Layout: "l" + x, Bytes: 1}},
		}},
		Dead: []events.Letter{letter, {ID: "t" + x}}, Left: []events.Letter{letter},
		Obligations: []events.Obligation{{Mirror: "m" + x, Reason: "o" + x}},
	}
}

// What others have named is shown as it is, and nothing of it becomes a part of the page.
func TestNothingThatIsShownIsMarkup(t *testing.T) {
	t.Run("daemon", func(t *testing.T) {
		shownAsWords(t, func(x string) string { return api.Live(full(x)) }, "m f p r b n s d w i l t o g")
	})
	t.Run("daemon without a queue", func(t *testing.T) {
		shownAsWords(t, func(x string) string { return api.Live(daemon.Status{Healthy: true, Trouble: "t" + x}) }, "t")
	})
	t.Run("indexer", func(t *testing.T) {
		shownAsWords(t, func(x string) string { return api.LiveIndexer(fullIndexer(x)) }, "p f r b s d n w l t m o")
	})
}

func shownAsWords(t *testing.T, page func(name string) string, shownAs string) {
	want, plain := said(t, page(""))
	places := strings.Join(plain, "\n")
	for _, name := range hostile {
		elements, words := said(t, page(name))
		if !slices.Equal(elements, want) {
			t.Errorf("%q changes the page:\n%s\nis without it\n%s", name, elements, want)
		}
		shown := strings.Join(words, "\n")
		for _, place := range strings.Split(shownAs, " ") {
			if !strings.Contains(shown, place+name) {
				t.Errorf("%q is not shown as %s", name, place)
			}
		}
		if got := strings.ReplaceAll(shown, name, ""); got != places {
			t.Errorf("%q: the page says\n%s\nwithout it\n%s", name, got, places)
		}
	}
}

// The page calls nothing published that is not, or that clients may not see yet.
func TestTheBannerSaysWhatIsTrue(t *testing.T) {
	one := func(change func(*daemon.Status, *daemon.MirrorStatus)) daemon.Status {
		s := daemon.Status{Healthy: true, Mirrors: []daemon.MirrorStatus{{Scanned: true}}}
		change(&s, &s.Mirrors[0])
		return s
	}
	for want, s := range map[string]daemon.Status{
		"idle: everything is published":              one(func(*daemon.Status, *daemon.MirrorStatus) {}),
		"working: sources are being scanned for the": one(func(_ *daemon.Status, m *daemon.MirrorStatus) { m.Scanned = false }),
		"working: everything is published, and caches are being invalidated": one(func(s *daemon.Status, _ *daemon.MirrorStatus) {
			s.Obligations = []queue.Obligation{{}}
		}),
		"waiting: a destination does not answer as it should: connection refused, trying again (3/10)": one(func(s *daemon.Status, m *daemon.MirrorStatus) {
			m.Waiting, m.Running = 1, []daemon.Sending{{Retrying: "connection refused, trying again (3/10)"}}
		}),
		"working: packages are being published": one(func(s *daemon.Status, m *daemon.MirrorStatus) {
			m.Waiting, s.Obligations = 1, []queue.Obligation{{}}
		}),
		"waiting: 2 packages not complete yet, for the reasons below; everything else": one(func(s *daemon.Status, m *daemon.MirrorStatus) {
			m.Waiting, s.Incomplete = 1, []daemon.StuckPackage{{Package: "zlib"}, {File: "v3/manifests/x"}}
		}),
		"working: packages are being": one(func(s *daemon.Status, m *daemon.MirrorStatus) {
			m.Waiting, s.Incomplete = 2, []daemon.StuckPackage{{Package: "zlib"}}
		}),
		"attention: some packages could not": one(func(s *daemon.Status, m *daemon.MirrorStatus) {
			m.Scanned, s.Failed = false, []queue.Job{{}}
		}),
	} {
		word, sentence := api.Summary(s)
		if got := word + ": " + sentence; !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
