package task

import (
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

// A Part is a part of a publish, as an observer sees it.
type Part string

const (
	PartScan   Part = "Scan"
	PartPlan   Part = "Plan"
	PartUpload Part = "Upload"
	PartIndex  Part = "Index"
	PartPages  Part = "Page"
	PartCDN    Part = "CloudFront"
	PartVerify Part = "Verify"
)

// An Observer follows a publish while it runs. Its result is in the report.
type Observer interface {
	// Begin is called when a part begins, which ends the previous one.
	Begin(Part)
	// Note reports one event of a part.
	Note(format string, args ...any)
	Scanned(*source.Source)
	// Planned is called when the report has the plan.
	Planned(*publish.Plan, *Report)
	// Progress returns an observer of the plan while it is applied, and a function that ends it with the
	// outcome.
	Progress(*publish.Plan) (p publish.Progress, stop func(*publish.Outcome))
	// End is called when the publish has ended, with its error.
	End(error)
}
