package sbom

import (
	"encoding/json"
	"io"
	"regexp"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

const noAssertion = "NOASSERTION"

// SPDX writes the stack as SPDX 2.3 in JSON.
func (s *Stack) SPDX(w io.Writer) error {
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: s.Name,
		DocumentNamespace: "urn:uuid:" + s.uuid(),
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: s.Tool + "-" + s.Version}}, Created: s.Created.UTC().Format(time.RFC3339),
		},
	}
	if s.Supplier != "" {
		doc.CreationInfo.Creators = append(doc.CreationInfo.Creators, common.Creator{CreatorType: "Organization", Creator: s.Supplier})
	}
	for _, it := range s.packages {
		doc.Packages = append(doc.Packages, s.spdxPackage(it))
		if s.roots[it.Node] {
			doc.Relationships = append(doc.Relationships, relation("DOCUMENT", common.TypeRelationshipDescribe, elementOf(it.Node)))
		}
	}
	for _, it := range s.packages {
		for _, d := range s.dependencies(it) {
			doc.Relationships = append(doc.Relationships, relationOf(it.Node, d))
		}
	}
	// This does the same as json.Write of the library. The package of json.Write also reads all versions and finds
	// methods by name, so the linker would keep every method of the program.
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(doc)
}

func (s *Stack) spdxPackage(it *item) *v2_3.Package {
	p := &v2_3.Package{
		PackageName: it.Name, PackageSPDXIdentifier: elementOf(it.Node), PackageVersion: it.Version.String(),
		PackageDownloadLocation: noAssertion, IsFilesAnalyzedTagPresent: true,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		PackageSupplier: &common.Supplier{Supplier: noAssertion}, PackageSourceInfo: it.about(), PackageComment: it.absent(),
		PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: s.purl(it)}},
	}
	switch {
	case it.licence == "":
	case licence.IsExpression(it.licence):
		p.PackageLicenseDeclared = it.licence
	default:
		p.PackageLicenseComments = "The recipe says: " + it.licence
	}
	if u := s.url(it); u != "" {
		p.PackageDownloadLocation = u
	}
	if it.document != nil {
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: it.sha256()}}
		if s.Supplier != "" {
			p.PackageSupplier = &common.Supplier{SupplierType: "Organization", Supplier: s.Supplier}
		}
	}
	return p
}

var notInElements = regexp.MustCompile(`[^A-Za-z0-9.-]`)

// elementOf returns the ID of a package within the document.
func elementOf(n *query.Node) common.ElementID {
	return common.ElementID(notInElements.ReplaceAllString(n.Name, "-") + "-" + n.Hash)
}

func relation(a common.ElementID, how string, b common.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{RefA: common.DocElementID{ElementRefID: a}, Relationship: how, RefB: common.DocElementID{ElementRefID: b}}
}

// relationOf returns the relationship for a dependency. A build or test dependency is not a part of the package.
func relationOf(n *query.Node, d query.Dependency) *v2_3.Relationship {
	switch {
	case d.Types&(query.Link|query.Run) != 0:
		return relation(elementOf(n), common.TypeRelationshipDependsOn, elementOf(d.To))
	case d.Types&query.Build != 0:
		return relation(elementOf(d.To), common.TypeRelationshipBuildDependencyOf, elementOf(n))
	}
	return relation(elementOf(d.To), common.TypeRelationshipTestDependencyOf, elementOf(n))
}
