//go:build unix

package monkey_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
)

// Links in a source do not make the node read or write what lies outside of it.
func TestLinksInASource(t *testing.T) {
	b := newBench(t)
	b.start(t)
	outside := filepath.Join(t.TempDir(), "outside")
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for name, files := range map[string]map[string]string{
		"endless go.mod":     project(merge(goFunction, map[string]string{"go.mod": "->/dev/zero"})),
		"go.mod is a pipe":   project(merge(goFunction, map[string]string{"go.mod": "->" + pipe})),
		"dangling go.mod":    project(merge(goFunction, map[string]string{"go.mod": "->" + outside})),
		"dangling inside":    project(merge(goFunction, map[string]string{"go.mod": "->nowhere"})),
		"endless workflow":   project(map[string]string{".taubyte/config.yaml": "->/dev/zero"}),
		"endless config":     project(goFunction, map[string]string{"config/config.yaml": "->/dev/zero"}),
		"endless resource":   project(goFunction, map[string]string{"config/functions/other.yaml": "->/dev/zero"}),
		"linked page":        project(shFunction, map[string]string{"websites/site/index.html": "->/dev/zero"}),
		"website is outside": project(shFunction, map[string]string{"websites/site/index.html": "", "websites/site": "->/etc"}),
	} {
		out := b.wait(t, b.push(repo, auth.KindProject, files))
		require.Equal(t, patrick.Failed, out.State, name)
		require.NoFileExists(t, outside, name)
		t.Logf("%s: %s", name, out.Error)
	}
	b.clean(t)
}

// What a command leaves in the place of its result is not followed.
func TestResultReplaced(t *testing.T) {
	b := newBench(t)
	b.start(t)
	secret := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(secret, "token"), []byte("NODETOKEN"), 0o600))
	site := func(script string) map[string]string {
		return project(shFunction, map[string]string{
			"websites/site/.taubyte/config.yaml": "workflow: [build]",
			"websites/site/.taubyte/build.sh":    script,
		})
	}
	for want, files := range map[string]map[string]string{
		"was replaced":                           site("rm -rf $OUT; ln -s " + secret + " $OUT"),
		"neither a directory nor a regular file": site("mkfifo $OUT/pipe; echo x > $OUT/page"),
		"no such file":                           site("rm -rf $OUT"),
		"nested more than":                       site("cd $OUT; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done; echo x > page"),
		"no regular file":                        project(merge(shFunction, map[string]string{".taubyte/build.sh": "mkfifo $OUT/main.wasm"})),
	} {
		out := b.wait(t, b.push(repo, auth.KindProject, files))
		require.Equal(t, patrick.Failed, out.State, want)
		require.Contains(t, out.Error, want)
	}
	b.clean(t)
}

func TestUnpackIsBounded(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	deep := archive(t, tar.Header{Name: strings.Repeat("d/", 200) + "f", Typeflag: tar.TypeReg})
	require.ErrorIs(t, monkey.Unpack(root, bytes.NewReader(deep), 1<<20), taubyte.ErrTooLarge)
}
