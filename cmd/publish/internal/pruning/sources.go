package pruning

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/downloads"
	"github.com/vantagecompute/slurm-factory-publish/publish/listing"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// logIsLate is how late a log may be written: CloudFront and S3 deliver most logs within hours, and some within
// a day.
const logIsLate = 48 * time.Hour

// readUsage finds out which packages clients have fetched. It returns an error if the logs begin after the time
// to keep: packages used before would be deleted.
func (x *pruning) readUsage(ctx context.Context, env cli.Env) error {
	if x.used == 0 {
		return nil
	}
	since := time.Now().Add(-x.used)
	var log downloads.Uses
	for _, place := range x.usage {
		var err error
		if strings.HasPrefix(place, "s3://") {
			err = x.logsOfBucket(ctx, env, place, since, &log)
		} else {
			err = logsOfDirectory(place, &log)
		}
		if err != nil {
			err = fmt.Errorf("--usage %s: %w", redact.URL(place), err)
			if errors.Is(err, fs.ErrNotExist) {
				return cli.Usage(err)
			}
			return err
		}
	}
	switch {
	case log.From.IsZero():
		return cli.Fail(cli.ExitUsage, errors.New("--usage: the logs hold no requests, so the used packages are unknown"))
	case log.From.After(since.Add(logIsLate)):
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--usage: the logs begin on %s, so the packages used before are unknown: want logs of the whole time, or a shorter --keep-used", log.From.Format(time.DateOnly)))
	case time.Since(log.Until) > logIsLate:
		return cli.Fail(cli.ExitUsage, fmt.Errorf("--usage: the logs end on %s, so the packages used since are unknown: are all logs there?", log.Until.Format(time.DateOnly)))
	}
	x.options.Keep.Used = log.Since(since)
	return nil
}

// logsOfDirectory reads a log file, or all log files below a directory.
func logsOfDirectory(place string, log *downloads.Uses) error {
	return filepath.WalkDir(place, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() && name != place || d.IsDir() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return named(name, log.Add(f))
	})
}

func named(name string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// logsOfBucket reads the logs below a prefix, except those older than a time.
func (x *pruning) logsOfBucket(ctx context.Context, env cli.Env, place string, since time.Time, log *downloads.Uses) error {
	d, err := cli.OpenTarget(ctx, env, place, x.elsewhere())
	if err != nil {
		return err
	}
	defer d.Close()
	m := d.Mirror("")
	for info, err := range m.List(ctx, mirror.Range{}) {
		if err != nil {
			return err
		}
		if info.Modified.Before(since) {
			continue
		}
		o, err := m.Open(ctx, info.Name)
		if err != nil {
			return err
		}
		err = named(info.Name, log.Add(o.Body))
		o.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// elsewhere returns how another bucket of the same storage is reached.
func (x *pruning) elsewhere() target.Config {
	c := x.target
	c.CDN = target.CDNConfig{}
	return c
}

// An inventory is the S3 Inventory that the plan uses; nil: none.
type inventory struct {
	*listing.Inventory
	prefix string // of DESTINATION
	close  func() error
}

// Close frees the resources of the inventory.
func (i *inventory) Close() error {
	if i == nil {
		return nil
	}
	return i.close()
}

// objects returns the objects of the mirror at a path; nil without an inventory.
func (i *inventory) objects(ctx context.Context, path string) iter.Seq2[mirror.Info, error] {
	if i == nil {
		return nil
	}
	return i.Objects(ctx, below(i.prefix)+below(path))
}

// below returns the common prefix of the names of all objects below a path.
func below(path string) string {
	if path == "" {
		return ""
	}
	return strings.TrimSuffix(path, "/") + "/"
}

// openInventory opens the inventory of the bucket of DESTINATION.
func (x *pruning) openInventory(ctx context.Context, env cli.Env, where string) (*inventory, error) {
	if x.inventory == "" {
		return nil, nil
	}
	bucket, prefix, err := target.BucketAndPrefix(where)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("--inventory: only a bucket has one: %w", err))
	}
	listBucket, key, err := target.BucketAndPrefix(x.inventory)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("--inventory: %w", err))
	}
	d, err := cli.OpenTarget(ctx, env, "s3://"+listBucket, x.elsewhere())
	if err != nil {
		return nil, err
	}
	m := d.Mirror("")
	text, _, err := mirror.Read(ctx, m, key, 64<<20)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("--inventory: %w", err)
	}
	i, err := listing.Parse(text, func(ctx context.Context, key string) (io.ReadCloser, error) {
		o, err := m.Open(ctx, key)
		if err != nil {
			return nil, err
		}
		return o.Body, nil
	})
	if err == nil && i.Bucket != bucket {
		err = fmt.Errorf("it is one of the bucket %s, and DESTINATION is in %s", i.Bucket, bucket)
	}
	if err != nil {
		d.Close()
		return nil, cli.Fail(cli.ExitUsage, fmt.Errorf("--inventory: %w", err))
	}
	return &inventory{i, prefix, d.Close}, nil
}
