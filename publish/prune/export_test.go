package prune

import (
	"io/fs"
	"os"

	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/verify"
)

var verifyAll = verify.Options{Deep: true}

func publishtestFS(fixture string) fs.FS { return os.DirFS(publishtest.Original(fixture)) }
