package publish_test

import (
	"os"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
)

// A damaged compiler keeps nothing from being published that it has built: that can be installed without it. A
// damaged link or run dependency does.
func TestADamagedBuildDependencyIsRefusedAlone(t *testing.T) {
	damages := map[string]func(t *testing.T, dir, pkg string){
		"document": func(t *testing.T, dir, pkg string) {
			publishtest.Must(t, os.WriteFile(publishtest.DocumentFile(t, dir, pkg), []byte("{}"), 0o644))
		},
		"content": func(t *testing.T, dir, pkg string) {
			name := publishtest.ContentFile(t, dir, pkg)
			content := publishtest.MustRead(t, name)
			content[len(content)/2] ^= 1
			publishtest.Must(t, os.WriteFile(name, content, 0o644))
		},
	}
	for what, damage := range damages {
		for pkg, refused := range map[string]int{"gcc": 1, "openssl": 6} { // what links openssl: libevent, munge, openmpi, pmix, slurm
			t.Run(what+" of "+pkg, func(t *testing.T) {
				dir := publishtest.Copied(t, "v3-unsigned")
				damage(t, dir, pkg)
				out, _ := publishtest.PublishTo(t, publishtest.EmptyMirror(t), dir, publish.Options{KeepGoing: true})
				n := 0
				for _, f := range out.Findings {
					if f.Severity == buildcache.Error {
						n++
					}
				}
				if n != refused {
					t.Errorf("%d packages are refused, want %d: %v", n, refused, out.Findings)
				}
			})
		}
	}
}
