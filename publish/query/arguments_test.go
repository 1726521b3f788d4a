package query_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/query"
)

func TestArguments(t *testing.T) {
	lock := func(arg string) bool { return strings.HasSuffix(arg, ".lock") }
	for _, test := range []struct{ args, want []string }{
		{nil, nil},
		{[]string{"slurm", "^openmpi"}, []string{"slurm ^openmpi"}},
		{[]string{"slurm@25:", "^", "openmpi"}, []string{"slurm@25: ^", "openmpi"}},
		{[]string{"hdf5", "+mpi", "~fortran", "api=v18", "cuda_arch:=90", "target=zen4", "%gcc@13", "@1.14:"}, []string{"hdf5 +mpi ~fortran api=v18 cuda_arch:=90 target=zen4 %gcc@13 @1.14:"}},
		{[]string{"hdf5", "^[virtuals=mpi] mpich", "++shared", "cflags==-O2"}, []string{"hdf5 ^[virtuals=mpi] mpich ++shared cflags==-O2"}},
		{[]string{"slurm", "zlib", "/hyibvwk", "/uba5li5"}, []string{"slurm", "zlib", "/hyibvwk", "/uba5li5"}},
		{[]string{"slurm", "zlib", "target=zen4"}, []string{"slurm", "zlib target=zen4"}},
		{[]string{"^openmpi", "zlib"}, []string{"^openmpi", "zlib"}},
		{[]string{"^openmpi", "^zlib"}, []string{"^openmpi ^zlib"}},
		{[]string{"spack.lock", "target=zen4"}, []string{"spack.lock", "target=zen4"}},
		{[]string{"zlib", "", " "}, []string{"zlib", "", " "}},
	} {
		if got := query.Arguments(test.args, lock); !slices.Equal(got, test.want) {
			t.Errorf("Arguments(%q) = %q, want %q", test.args, got, test.want)
		}
	}
}
