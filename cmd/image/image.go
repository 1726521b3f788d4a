package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The image is written without a library. It is a tarball and four small JSON documents, and the digest in
// action.yml must not change with a dependency. The tests read the image with go-containerregistry.

const (
	repository = "ghcr.io/vantagecompute/slurm-factory-publish"
	program    = "slurm-factory-publish" // in the image, at its root

	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
	configType   = "application/vnd.oci.image.config.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

// labels are the same in the image of every version. They do not include the commit, because the image would then
// depend on the commit that names it.
var labels = map[string]string{
	"org.opencontainers.image.title":         program,
	"org.opencontainers.image.description":   "Publishes Spack buildcaches to S3 and CloudFront",
	"org.opencontainers.image.source":        "https://github.com/vantagecompute/slurm-factory-publish",
	"org.opencontainers.image.documentation": "https://github.com/vantagecompute/slurm-factory-publish#readme",
	"org.opencontainers.image.licenses":      "Apache-2.0",
}

// epoch is the time of everything in the image, so that every build has the same bytes.
var epoch = time.Unix(0, 0).UTC()

// A descriptor refers to a blob.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// A built is the image for one platform.
type built struct {
	platform
	config, layer, manifest descriptor
}

func (b built) String() string { return b.OS + "/" + b.Architecture }

// size returns the number of bytes that a client downloads.
func (b built) size() int64 { return b.config.Size + b.layer.Size + b.manifest.Size }

// An image is an index of the images for all platforms.
type image struct {
	platforms []built
	index     descriptor
	blobs     map[string][]byte // by digest
}

// newImage makes the image from the binaries, by architecture. Equal arguments give equal bytes.
func newImage(version string, binaries map[string][]byte) (*image, error) {
	img := &image{blobs: make(map[string][]byte)}
	var manifests []descriptor
	for _, arch := range architectures {
		b, err := img.addPlatform(version, platform{Architecture: arch, OS: "linux"}, binaries[arch])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arch, err)
		}
		img.platforms = append(img.platforms, b)
		manifests = append(manifests, b.manifest)
	}
	index, err := img.addJSON(indexType, map[string]any{
		"schemaVersion": 2, "mediaType": indexType, "manifests": manifests,
	})
	img.index = index
	return img, err
}

func (img *image) addPlatform(version string, p platform, binary []byte) (built, error) {
	if len(binary) == 0 {
		return built{}, errors.New("no binary")
	}
	tarball, err := tarOf(binary)
	if err != nil {
		return built{}, err
	}
	zipped, err := gzipOf(tarball)
	if err != nil {
		return built{}, err
	}
	b := built{platform: p, layer: img.add(layerType, zipped)}
	all := map[string]string{"org.opencontainers.image.version": version}
	for k, v := range labels {
		all[k] = v
	}
	b.config, err = img.addJSON(configType, map[string]any{
		"created": epoch, "architecture": p.Architecture, "os": p.OS,
		// No user: GitHub's files belong to the user of the runner, and only root can write all of them.
		"config": map[string]any{
			"Entrypoint": []string{"/" + program}, "Cmd": []string{"action"}, "WorkingDir": "/", "Labels": all,
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{digestOf(tarball)}},
		"history": []any{map[string]any{"created": epoch, "created_by": "make image"}},
	})
	if err != nil {
		return built{}, err
	}
	b.manifest, err = img.addJSON(manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": b.config, "layers": []descriptor{b.layer},
	})
	b.manifest.Platform = &b.platform
	return b, err
}

func (img *image) add(mediaType string, data []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: digestOf(data), Size: int64(len(data))}
	img.blobs[d.Digest] = data
	return d
}

// addJSON adds a document. encoding/json sorts the keys of maps.
func (img *image) addJSON(mediaType string, doc any) (descriptor, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return descriptor{}, err
	}
	return img.add(mediaType, data), nil
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func tarOf(binary []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: program, Mode: 0o755, Size: int64(len(binary)), ModTime: epoch, Format: tar.FormatUSTAR,
	})
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func gzipOf(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// write writes the image to dir as an OCI image layout, and replaces an image there. If dir exists but is not an
// image, write leaves it alone and returns an error.
func (img *image) write(dir string) error {
	switch _, err := os.Stat(filepath.Join(dir, "oci-layout")); {
	case err == nil:
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(dir)), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("%w; it is not an image of ours", err)
	}
	blobs := filepath.Join(dir, "blobs/sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	for digest, data := range img.blobs {
		if err := os.WriteFile(filepath.Join(blobs, strings.TrimPrefix(digest, "sha256:")), data, 0o644); err != nil {
			return err
		}
	}
	top, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": indexType, "manifests": []descriptor{img.index},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), top, 0o644); err != nil {
		return err
	}
	// oci-layout is written last: a directory with this file is complete.
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}
