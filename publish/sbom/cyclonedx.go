package sbom

import (
	"io"
	"time"

	"github.com/CycloneDX/cyclonedx-go"

	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
)

// CycloneDX writes the stack as CycloneDX 1.6 in JSON.
func (s *Stack) CycloneDX(w io.Writer) error {
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + s.uuid()
	stack := cyclonedx.Component{BOMRef: "stack", Type: cyclonedx.ComponentTypeApplication, Name: s.Name, Supplier: s.organization()}
	tool := cyclonedx.Component{Type: cyclonedx.ComponentTypeApplication, Name: s.Tool, Version: s.Version}
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: s.Created.UTC().Format(time.RFC3339), Component: &stack,
		Tools: &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{tool}},
	}
	components, roots := []cyclonedx.Component{}, []string{}
	dependencies := make([]cyclonedx.Dependency, 1)
	for _, it := range s.packages {
		components = append(components, s.component(it))
		if s.roots[it.Node] {
			roots = append(roots, it.Hash)
		}
		on := []string{}
		for _, d := range s.dependencies(it) {
			on = append(on, d.To.Hash)
		}
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: it.Hash, Dependencies: &on})
	}
	dependencies[0] = cyclonedx.Dependency{Ref: stack.BOMRef, Dependencies: &roots}
	bom.Components, bom.Dependencies = &components, &dependencies
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
}

func (s *Stack) organization() *cyclonedx.OrganizationalEntity {
	if s.Supplier == "" {
		return nil
	}
	return &cyclonedx.OrganizationalEntity{Name: s.Supplier}
}

func (s *Stack) component(it *item) cyclonedx.Component {
	c := cyclonedx.Component{
		BOMRef: it.Hash, Type: cyclonedx.ComponentTypeLibrary, Name: it.Name, Version: it.Version.String(), PackageURL: s.purl(it), Scope: cyclonedx.ScopeRequired,
	}
	if it.build {
		c.Scope = cyclonedx.ScopeExcluded
	}
	properties := []cyclonedx.Property{{Name: "spack:spec", Value: it.about()}}
	if why := it.absent(); why != "" {
		properties = append(properties, cyclonedx.Property{Name: "spack:absent", Value: why})
	} else {
		c.Supplier = s.organization()
		c.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: it.sha256()}}
	}
	switch {
	case it.licence == "":
	case licence.IsExpression(it.licence):
		c.Licenses = &cyclonedx.Licenses{{Expression: it.licence}}
	default:
		c.Licenses = &cyclonedx.Licenses{{License: &cyclonedx.License{Name: it.licence}}}
	}
	c.Properties = &properties
	if u := s.url(it); u != "" {
		c.ExternalReferences = &[]cyclonedx.ExternalReference{{Type: cyclonedx.ERTypeDistribution, URL: u}}
	}
	return c
}
