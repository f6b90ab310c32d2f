package monkey

import (
	"context"
	"io"
	"os"
	"testing/fstest"
	"time"

	"github.com/taubyte/taubyte/internal/mask"
)

// What has no way in from outside but a whole build, and has to stand any input.
var (
	CheckModule   = checkModule
	ParseWorkflow = func(text []byte) error { _, err := parseWorkflow(text); return err }
	Unpack        = func(root *os.Root, r io.Reader, limit int64) error { _, err := unpack(root, r, limit); return err }
)

// LocalModules says whether a module with that go.mod may need folders beside its own.
func LocalModules(gomod string) bool {
	return localModules(fstest.MapFS{"x/go.mod": {Data: []byte(gomod)}}, "x")
}

// AdaptGo is what becomes of a function's source in a build.
func AdaptGo(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = adaptGo(ctx, tree{root, "."}, false)
	return err
}

// LockURLs are the addresses that a lock file of npm, yarn or pnpm has packages from.
func LockURLs(manager string, text []byte) ([]string, error) {
	return lockURLs(packager{name: manager}, text)
}

// WithPatience sets how long a worker waits for other nodes.
func WithPatience(service, publish time.Duration) Option {
	return func(o *options) { o.serviceTimeout, o.publishTimeout = service, publish }
}

// A Log carries the log of a job.
type Log struct{ l *jobLog }

func NewLog(ctx context.Context, limit int64, send func(context.Context, int64, []byte) error) Log {
	return Log{newJobLog(ctx, limit, send, func(error) {})}
}

func (l Log) Of(step string, secrets ...string) io.WriteCloser {
	return l.l.of(step, mask.New(secrets...))
}
func (l Log) Close(ctx context.Context) { l.l.close(ctx) }
