package publish

import "github.com/vantagecompute/slurm-factory-publish/publish/mirror"

// Everything are the ranges by which a whole mirror of a layout is listed if it holds
// about so many packages.
func Everything(layout string, packages int64) []mirror.Range {
	if layout == "v2" {
		return everything(v2{}, packages)
	}
	return everything(v3{}, packages)
}

// Touched are the ranges by which names are looked for among about so many objects; nil
// if everything is listed.
func Touched(layout string, names []string, objects int64) []mirror.Range {
	if layout == "v2" {
		return touched(v2{}, names, objects)
	}
	return touched(v3{}, names, objects)
}
