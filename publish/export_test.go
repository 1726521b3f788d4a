package publish

import "github.com/vantagecompute/slurm-factory-publish/publish/mirror"

// Everything are the ranges by which a whole mirror of a layout is listed if it holds
// about so many packages.
func Everything(layout string, packages int64) []mirror.Range {
	if layout == "v2" {
		return everything(formatV2, packages)
	}
	return everything(formatV3, packages)
}

// Touched are the ranges by which names are looked for among about so many objects; nil
// if everything is listed.
func Touched(layout string, names []string, objects int64) []mirror.Range {
	if layout == "v2" {
		return touched(formatV2, names, objects)
	}
	return touched(formatV3, names, objects)
}
