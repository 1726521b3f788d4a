module github.com/vantagecompute/slurm-factory-publish

go 1.26.0
