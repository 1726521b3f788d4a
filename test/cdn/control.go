package cdn

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Control is CloudFront's API as far as invalidation goes. It takes effect at once on
// Edge and is complete at once.
//
// It checks what CloudFront checks: a caller reference that was used before gives the
// invalidation that it gave then, and is refused for other paths. Signatures are not checked.
type Control struct {
	Edge         *Edge
	Distribution string // the only one that exists

	mu   sync.Mutex // guards made
	made []Invalidation
}

// An Invalidation is one that was asked for.
type Invalidation struct {
	ID, Reference string
	Paths         []string
}

// Made returns the invalidations so far.
func (c *Control) Made() []Invalidation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.made)
}

type batch struct {
	XMLName         xml.Name `xml:"InvalidationBatch"`
	CallerReference string
	Paths           struct {
		Quantity int
		Items    struct {
			Path []string
		}
	}
}

type invalidation struct {
	XMLName    xml.Name `xml:"Invalidation"`
	ID         string   `xml:"Id"`
	Status     string
	CreateTime string
	Batch      batch `xml:"InvalidationBatch"`
}

func (c *Control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/2020-05-31/distribution/"+c.Distribution+"/invalidation")
	switch {
	case !ok:
		refuse(w, http.StatusNotFound, "NoSuchDistribution", "The specified distribution does not exist.")
	case path == "" && r.Method == http.MethodPost:
		c.create(w, r)
	case r.Method == http.MethodGet:
		c.status(w, strings.TrimPrefix(path, "/"))
	default:
		refuse(w, http.StatusMethodNotAllowed, "InvalidAction", r.Method)
	}
}

func (c *Control) create(w http.ResponseWriter, r *http.Request) {
	var b batch
	err := xml.NewDecoder(r.Body).Decode(&b)
	items := b.Paths.Items.Path
	if err != nil || b.CallerReference == "" || len(items) == 0 || len(items) != b.Paths.Quantity {
		refuse(w, http.StatusBadRequest, "InvalidArgument", fmt.Sprintf("%v: %+v", err, b))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, was := range c.made {
		if was.Reference != b.CallerReference {
			continue
		}
		if !slices.Equal(was.Paths, items) {
			refuse(w, http.StatusBadRequest, "InvalidationBatchAlreadyExists", "The caller reference was used for other paths.")
			return
		}
		answer(w, http.StatusCreated, was)
		return
	}
	if err := c.Edge.Invalidate(items...); err != nil {
		refuse(w, http.StatusBadRequest, "InvalidArgument", err.Error())
		return
	}
	is := Invalidation{fmt.Sprintf("I%d", len(c.made)+1), b.CallerReference, items}
	c.made = append(c.made, is)
	answer(w, http.StatusCreated, is)
}

func (c *Control) status(w http.ResponseWriter, id string) {
	for _, was := range c.Made() {
		if was.ID == id {
			answer(w, http.StatusOK, was)
			return
		}
	}
	refuse(w, http.StatusNotFound, "NoSuchInvalidation", "The specified invalidation does not exist.")
}

func answer(w http.ResponseWriter, status int, i Invalidation) {
	doc := invalidation{ID: i.ID, Status: "Completed", CreateTime: time.Now().UTC().Format(time.RFC3339)}
	doc.Batch.CallerReference = i.Reference
	doc.Batch.Paths.Quantity = len(i.Paths)
	doc.Batch.Paths.Items.Path = i.Paths
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	xml.NewEncoder(w).Encode(doc)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Code    string   `xml:"Error>Code"`
		Message string   `xml:"Error>Message"`
	}{Code: code, Message: message})
}
