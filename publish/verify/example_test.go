package verify_test

import (
	"context"
	"fmt"
	"log"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

// Mirror checks a mirror that it only reads: a directory, a bucket, or a URL.
func ExampleMirror() {
	d, err := dir.Open("../../test/testdata/v3-unsigned", dir.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	report, err := verify.Mirror(context.Background(), d.Mirror(""), verify.Options{Deep: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Layouts, report.Packages, "packages, damaged:", report.Damaged())
	for _, f := range report.Findings {
		fmt.Println(f.Severity, f)
	}
	// Output:
	// [v3] 11 packages, damaged: false
}
