package monkey

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockservice"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
)

// Protocol is monkey's protocol between nodes, and the name under which its host
// provides it.
const Protocol protocol.ID = "/taubyte/monkey/1"

// Option changes what New makes.
type Option func(*options)

type options struct {
	jobs     Jobs
	tns      Registry
	keeper   Keeper
	certs    Certificates
	env      Environment
	envName  string
	images   map[string]Image
	labels   []string
	capacity int
	replicas int
	workDir  string
	cacheDir string
	network  bool
	log      *slog.Logger

	timeout     time.Duration
	limits      Limits
	sourceLimit int64
	outputLimit int64
	moduleLimit int64
	logLimit    int64
	minRoom     uint64

	serviceTimeout time.Duration
	publishTimeout time.Duration
}

// WithPatrick sets where jobs come from. The default is a patrick.Client.
func WithPatrick(j Jobs) Option { return func(o *options) { o.jobs = j } }

// WithTNS sets where deployments are published. The default is a tns.Client.
func WithTNS(r Registry) Option { return func(o *options) { o.tns = r } }

// WithHoarder sets what keeps the artefacts. The default is a hoarder.Client.
func WithHoarder(k Keeper) Option { return func(o *options) { o.keeper = k } }

// WithCertificates sets what keeps the certificates of projects' configurations. The
// default is an auth.Client.
func WithCertificates(c Certificates) Option { return func(o *options) { o.certs = c } }

// WithEnvironment sets what runs builds, and a name for it: what one environment has built
// is not taken from the cache for another. The default is a Confined, and New fails with a
// *MissingError where there can't be one: that builds run as plain processes, with all that
// the node's user may, has to be said: WithEnvironment("process", &Process{}).
func WithEnvironment(name string, e Environment) Option {
	return func(o *options) { o.env, o.envName = e, name }
}

// WithNetwork lets the scripts of builds use the machine's network, as the node has it, and
// Go modules come from servers that a go.mod names. The default is no network for scripts,
// and Go modules from the proxies in the node's GOPROXY, fetched before the build.
func WithNetwork() Option { return func(o *options) { o.network = true } }

// WithCacheDir sets the folder of what builds of all projects begin with: the compiled
// standard library, made by the node itself. Many services may share it. The default is a
// folder of the user's cache directory, or of the work folder where there is none.
func WithCacheDir(dir string) Option { return func(o *options) { o.cacheDir = dir } }

// WithCapacity sets how many jobs are built at a time. The default is 1: within a
// job, targets are built in parallel already.
func WithCapacity(jobs int) Option { return func(o *options) { o.capacity = jobs } }

// WithLabels says what this worker has that not every worker has, such as "gpu": builds that
// ask for it (labels in .taubyte/config.yaml) are run where it is. A label is up to 63 of a
// to z, 0 to 9, '.', '_' and '-'. The default is what the node knows of itself, which these
// add to: the operating system and architecture by Go's names ("linux", "arm64"), and the
// toolchains that are there ("go", "tinygo", "rust", "node") or, in containers, "container".
func WithLabels(labels ...string) Option { return func(o *options) { o.labels = labels } }

// WithReplicas sets how many hoarders should hold what is built, as far as there are so
// many. The default is 2.
func WithReplicas(n int) Option { return func(o *options) { o.replicas = n } }

// WithWorkDir sets the folder below which builds work. It is made if need be; what
// earlier builds left there is removed, and nothing else. What projects keep between their
// builds is below it as well. It belongs to one service.
// The default is a folder of this host's in the system's folder for temporary files.
func WithWorkDir(dir string) Option { return func(o *options) { o.workDir = dir } }

// WithTimeout bounds the build of one job, without what it waits for other nodes. The
// default is half an hour.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithLimits bounds each target of a build, where the environment can. The default is 20
// minutes of CPU time a process, files of 4 GiB, 8 GiB of memory, 4096 processes and
// threads, and 16 GiB of disk.
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

// WithOutputLimits bounds a website's files together, one module, and a job's log,
// in bytes. The defaults are 2 GiB, 128 MiB and 128 MiB. What is beyond that of a log is left out of
// it, which it says, as patrick does with what is beyond its own limit.
func WithOutputLimits(website, module, log int64) Option {
	return func(o *options) { o.outputLimit, o.moduleLimit, o.logLimit = website, module, log }
}

// WithLogger sets where the service logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// workPrefix begins the names of the folders below the work folder that are the
// service's.
const workPrefix = "taubyte-build-"

// Service is a worker. It is safe for concurrent use.
type Service struct {
	host     taubyte.Host
	o        options
	cache    *cache
	cpus     chan struct{} // a place for each target that is built at a time
	close    []func() error
	server   *rpc.Server
	withdraw func()

	toolsMu sync.Mutex
	tools   *toolchain
	answers map[string]string // of programs that were asked, by question

	cacheMu sync.Mutex // of the folders that builds begin with

	mu      sync.Mutex
	running map[taubyte.JobID]Running

	life context.Context // from New to Close
	stop context.CancelFunc
	wg   sync.WaitGroup
	once sync.Once
	err  error
}

// New starts a worker on the host. ctx bounds the start only.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, opts ...Option) (*Service, error) {
	o := options{
		capacity: 1, replicas: 2, log: slog.Default(),
		workDir:     filepath.Join(os.TempDir(), "taubyte-monkey-"+host.ID().String()),
		timeout:     30 * time.Minute,
		limits:      Limits{CPU: 20 * time.Minute, File: 4 << 30, Memory: 8 << 30, Processes: 4096, Disk: 16 << 30},
		sourceLimit: 2 << 30, outputLimit: 2 << 30, moduleLimit: 128 << 20, logLimit: 128 << 20, minRoom: minRoom,
		serviceTimeout: serviceTimeout, publishTimeout: publishTimeout,
	}
	for _, opt := range opts {
		opt(&o)
	}
	s := &Service{
		host: host, o: o,
		cache: &cache{
			store:  namespace.Wrap(store, ds.NewKey("/monkey")),
			blocks: blockservice.New(host.Blocks().Blockstore(), nil),
		},
		cpus:    make(chan struct{}, max(runtime.GOMAXPROCS(0), 1)),
		running: map[taubyte.JobID]Running{},
		answers: map[string]string{},
	}
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("starting monkey: %w", err)
	}
	return s, nil
}

func (s *Service) start(ctx context.Context) (err error) {
	if s.o.capacity < 1 || s.o.replicas < 1 {
		return fmt.Errorf("%w option: a capacity of %d jobs, %d replicas", taubyte.ErrInvalid, s.o.capacity, s.o.replicas)
	}
	if err := checkImages(s.o.images); err != nil {
		return err
	}
	if s.o.labels, err = readLabels(s.o.labels); err != nil {
		return err
	}
	if s.o.workDir, err = filepath.Abs(s.o.workDir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.o.workDir, 0o700); err != nil {
		return fmt.Errorf("making the folder for builds: %w", err)
	}
	if err := s.clean(); err != nil {
		return err
	}
	if err := s.cache.prune(ctx); err != nil {
		return err
	}
	s.pruneCaches()
	if s.o.cacheDir == "" {
		s.o.cacheDir = filepath.Join(s.o.workDir, cachePrefix+"base")
		if user, err := os.UserCacheDir(); err == nil {
			s.o.cacheDir = filepath.Join(user, "taubyte", "build")
		}
	}
	if s.o.env == nil {
		confined, err := NewConfined(ctx)
		if err != nil {
			return err
		}
		s.o.env, s.o.envName = confined, "confined"
	}
	if s.o.jobs == nil {
		c := patrick.NewClient(s.host)
		s.o.jobs, s.close = c, append(s.close, c.Close)
	}
	if s.o.tns == nil {
		c := tns.NewClient(s.host)
		s.o.tns, s.close = c, append(s.close, c.Close)
	}
	if s.o.keeper == nil {
		c := hoarder.NewClient(s.host)
		s.o.keeper, s.close = c, append(s.close, c.Close)
	}
	if s.o.certs == nil {
		c := auth.NewClient(s.host)
		s.o.certs, s.close = c, append(s.close, c.Close)
	}
	if s.server, err = rpc.Serve(s.host, Protocol, s.Handler()); err != nil {
		return err
	}
	if s.withdraw, err = s.host.Provide(Protocol, s); err != nil {
		return err
	}
	for range s.o.capacity {
		s.wg.Go(s.work)
	}
	return nil
}

// clean removes what builds of an earlier life left behind.
func (s *Service) clean() error {
	entries, err := os.ReadDir(s.o.workDir)
	if err != nil {
		return fmt.Errorf("clearing the folder for builds: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), workPrefix) {
			if err := s.remove(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes a folder of the work folder.
func (s *Service) remove(name string) error {
	root, err := os.OpenRoot(s.o.workDir)
	if err != nil {
		return fmt.Errorf("removing a build's folder: %w", err)
	}
	defer root.Close()
	return removeAll(root, name)
}

// Close stops the worker. Jobs under way are given back, for others to take up at once.
// It may be called twice.
func (s *Service) Close() error {
	s.once.Do(func() {
		if s.withdraw != nil {
			s.withdraw()
		}
		if s.server != nil {
			s.err = s.server.Close()
		}
		s.stop()
		s.wg.Wait()
		for _, c := range s.close {
			if err := c(); s.err == nil {
				s.err = err
			}
		}
		if filepath.IsAbs(s.o.workDir) {
			_ = s.clean()
			_ = os.Remove(s.o.workDir) // if nothing else is in it
		}
	})
	s.wg.Wait()
	return s.err
}
