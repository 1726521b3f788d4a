package source_test

import (
	"context"
	"fmt"
	"log"

	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// Open reads what is selected of a mirror, or of a tree of mirrors. What is wrong with single files is in Findings.
func ExampleOpen() {
	src, err := source.Open(context.Background(), "../../test/testdata/v3-signed", source.Selection{Include: []string{"munge@0.5.*"}})
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	for _, m := range src.Mirrors {
		for _, p := range m.Packages {
			fmt.Println(m.Layout.Name(), p.Package, p.Version, "signed:", p.Signed)
		}
		fmt.Println(len(m.Keys), "public key")
	}
	fmt.Println(len(src.Findings), "findings")
	// Output:
	// v3 munge 0.5.16 signed: true
	// 1 public key
	// 0 findings
}
