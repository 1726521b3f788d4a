package task

import "github.com/vantagecompute/slurm-factory-publish/publish"

// With returns the packages with a status.
func (r *Report) With(status publish.Status) (all []PackageReport) {
	for _, m := range r.Mirrors {
		for _, p := range m.Packages {
			if p.Status == string(status) {
				all = append(all, p)
			}
		}
	}
	return all
}
