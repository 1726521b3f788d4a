// Command image builds the container image of the GitHub Action from source. The bytes, and so the digest, are the
// same in every directory and on every machine. It needs the source and Go, but no registry and no container
// engine.
//
// So a commit can name the image that is built from it. action.yml holds the digest. Anyone who has the commit can
// build the image and compare the digests.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

// run builds the image, and prints its digest as the last line.
func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	src := flags.String("source", ".", "the top `directory` of the source")
	out := flags.String("o", "bin/image", "the `directory` to write the image to, an OCI image layout")
	pin := flags.Bool("pin", false, "write version and digest into action.yml")
	check := flags.Bool("check", false, "fail if action.yml names another image of this version")
	binaries := flags.String("binaries", "", "write the programs in the image to the `directory`, too")
	release := flags.String("release", "", "fail unless the source is that of the release `TAG`, as v1.2.3, ready to be published")
	if err := flags.Parse(args); err != nil {
		return err
	}
	source, err := openSource(*src)
	if err != nil {
		return err
	}
	if *release != "" {
		if err := source.checkRelease(*release); err != nil {
			return err
		}
	}
	programs, err := source.compileAll()
	if err != nil {
		return err
	}
	if *binaries != "" {
		for arch, bin := range programs {
			if err := os.WriteFile(filepath.Join(*binaries, "publish-linux-"+arch), bin, 0o755); err != nil {
				return err
			}
		}
	}
	image, err := newImage(source.version, programs)
	if err != nil {
		return err
	}
	if err := image.write(*out); err != nil {
		return err
	}
	for _, p := range image.platforms {
		fmt.Fprintf(stdout, "%s %s %s\n", p, p.manifest.Digest, humanize.Bytes(uint64(p.size())))
	}
	fmt.Fprintf(stdout, "%s:%s in %s\n%s\n", repository, source.version, *out, image.index.Digest)
	if *pin {
		return source.pin(image.index.Digest)
	}
	if *check || *release != "" {
		return source.checkPin(image.index.Digest)
	}
	return nil
}
