package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// filesAtOnce is how many files a program of the SDK's uploaders sends at once, each in up to five
// parts at once. 8 and 32 were no faster.
const filesAtOnce = 16

// An uploader sends one file.
type uploader func(ctx context.Context, bucket, key string, body *os.File) error

func withManager(c *s3.Client) uploader {
	up := manager.NewUploader(c) //lint:ignore SA1019 it is what most programs still use
	return func(ctx context.Context, bucket, key string, body *os.File) error {
		//lint:ignore SA1019 likewise
		_, err := up.Upload(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: body})
		return err
	}
}

func withTransferManager(c *s3.Client) uploader {
	up := transfermanager.New(c)
	return func(ctx context.Context, bucket, key string, body *os.File) error {
		_, err := up.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &bucket, Key: &key, Body: body})
		return err
	}
}

// runSDK is the program that one would write with an uploader of the SDK: it lists what
// is there, and sends every file of another size.
func runSDK(with func(*s3.Client) uploader) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if len(args) != 2 {
			return fmt.Errorf("%d arguments, want DIRECTORY s3://BUCKET/PREFIX", len(args))
		}
		to, err := url.Parse(args[1])
		if err != nil {
			return err
		}
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return err
		}
		c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
		return mirrorDir(ctx, c, with(c), args[0], to.Host, strings.Trim(to.Path, "/"))
	}
}

func mirrorDir(ctx context.Context, c *s3.Client, send uploader, dir, bucket, prefix string) error {
	there := make(map[string]int64)
	for pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			there[*o.Key] = *o.Size
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(filesAtOnce)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		key := path.Join(prefix, filepath.ToSlash(rel))
		if size, ok := there[key]; ok && size == info.Size() {
			return nil
		}
		g.Go(func() error {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			return send(ctx, bucket, key, f)
		})
		return ctx.Err()
	})
	if sent := g.Wait(); sent != nil {
		return sent
	}
	return err
}
