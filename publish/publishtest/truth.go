package publishtest

import (
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

const (
	HashA = spec.Hash("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	HashB = spec.Hash("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	HashC = spec.Hash("cccccccccccccccccccccccccccccccc")
)
