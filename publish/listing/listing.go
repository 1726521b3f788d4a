// Package listing reads the names of objects from an S3 Inventory, a list that S3 makes each day or week. It costs
// a fraction of listing a bucket. The package does no I/O of its own.
//
// An inventory is out of date. It says which objects probably exist, so callers must check an object before they
// rely on it.
package listing

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// An Inventory is a list of the objects of a bucket at one time.
type Inventory struct {
	Bucket  string    // the bucket that is listed
	Created time.Time // the time at which S3 began to make it
	files   []string  // keys in the bucket that stores the inventory
	columns map[string]int
	open    Open
}

// Open opens an object of the bucket that stores an inventory.
type Open func(ctx context.Context, key string) (io.ReadCloser, error)

// required are the columns that an inventory must have. Other columns are optional: IsLatest and IsDeleteMarker are
// used if they exist.
var required = []string{"Key", "Size", "LastModifiedDate", "ETag"}

// Parse reads the manifest.json of an inventory.
func Parse(text []byte, open Open) (*Inventory, error) {
	var m struct {
		SourceBucket      string `json:"sourceBucket"`
		CreationTimestamp string `json:"creationTimestamp"`
		FileFormat        string `json:"fileFormat"`
		FileSchema        string `json:"fileSchema"`
		Files             []struct {
			Key string `json:"key"`
		} `json:"files"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("no manifest.json of an S3 Inventory: %w", err)
	}
	if m.SourceBucket == "" || m.FileSchema == "" {
		return nil, errors.New("no manifest.json of an S3 Inventory")
	}
	if m.FileFormat != "CSV" {
		return nil, fmt.Errorf("the inventory is in %s: want one in CSV", m.FileFormat)
	}
	millis, err := strconv.ParseInt(m.CreationTimestamp, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("creationTimestamp: %w", err)
	}
	i := &Inventory{Bucket: m.SourceBucket, Created: time.UnixMilli(millis).UTC(), columns: make(map[string]int), open: open}
	for at, name := range strings.Split(m.FileSchema, ",") {
		i.columns[strings.TrimSpace(name)] = at
	}
	for _, name := range required {
		if _, ok := i.columns[name]; !ok {
			return nil, fmt.Errorf("the inventory lacks the column %s: add it to the configuration of the inventory", name)
		}
	}
	for _, f := range m.Files {
		i.files = append(i.files, f.Key)
	}
	return i, nil
}

// Objects yields the current objects below a prefix. Their names do not contain the prefix.
func (i *Inventory) Objects(ctx context.Context, prefix string) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		for _, file := range i.files {
			for info, err := range i.file(ctx, file) {
				if err != nil {
					yield(mirror.Info{}, fmt.Errorf("%s: %w", file, err))
					return
				}
				name, ok := strings.CutPrefix(info.Name, prefix)
				if info.Name = name; ok && !yield(info, nil) {
					return
				}
			}
		}
	}
}

func (i *Inventory) file(ctx context.Context, key string) iter.Seq2[mirror.Info, error] {
	return func(yield func(mirror.Info, error) bool) {
		body, err := i.open(ctx, key)
		if err != nil {
			yield(mirror.Info{}, err)
			return
		}
		defer body.Close()
		z, err := gzip.NewReader(bufio.NewReader(body))
		if err != nil {
			yield(mirror.Info{}, err)
			return
		}
		rows := csv.NewReader(z)
		rows.FieldsPerRecord, rows.ReuseRecord = len(i.columns), true
		for {
			row, err := rows.Read()
			if err == io.EOF {
				return
			}
			var info mirror.Info
			current := true
			if err == nil {
				info, current, err = i.object(row)
			}
			if (err != nil || current) && !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// object reads a row. It returns false for an old version of an object and for a deleted object.
func (i *Inventory) object(row []string) (mirror.Info, bool, error) {
	of := func(name string) string {
		if at, ok := i.columns[name]; ok {
			return row[at]
		}
		return ""
	}
	if of("IsDeleteMarker") == "true" || of("IsLatest") == "false" {
		return mirror.Info{}, false, nil
	}
	name, err := url.QueryUnescape(of("Key"))
	if err != nil {
		return mirror.Info{}, false, err
	}
	size, err := strconv.ParseInt(of("Size"), 10, 64)
	if err != nil {
		return mirror.Info{}, false, fmt.Errorf("%s: size: %w", name, err)
	}
	modified, err := time.Parse(time.RFC3339, of("LastModifiedDate"))
	if err != nil {
		return mirror.Info{}, false, fmt.Errorf("%s: %w", name, err)
	}
	return mirror.Info{Name: name, Size: size, Modified: modified, Version: mirror.Version(`"` + strings.Trim(of("ETag"), `"`) + `"`)}, true, nil
}
