package reliability_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/taubyte/taubyte/internal/testcluster"
)

var (
	set    = flag.String("set", "short", "which tests run: short, or long with the times and the strictness of docs/reliability.md")
	report = flag.String("report", "", "a file to which the figures are appended")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testcluster.Main(m))
}

// Kinds of requests in the figures.
const (
	function = "function"
	website  = "website"
	write    = "write"
	readBack = "read back"
)

// fixture is a cluster with two projects, of which one has a database.
type fixture struct {
	*testing.T
	c            *testcluster.Cluster
	hello, notes *testcluster.Project
	ledger       *testcluster.Ledger
}

func setup(t *testing.T, nodes testcluster.Topology) *fixture {
	t.Helper()
	return setupConfig(t, testcluster.Config{Nodes: nodes, Isolated: true})
}

func setupConfig(t *testing.T, config testcluster.Config) *fixture {
	t.Helper()
	began := time.Now()
	c := testcluster.Start(t, config)
	f := &fixture{T: t, c: c}
	t.Logf("the cluster is up after %s", time.Since(began).Round(time.Millisecond))
	f.hello = c.Deploy("hello", "hello", "/ping")
	f.notes = c.Deploy("notes", "notes", "/notes")
	f.ledger = testcluster.Notes(f.notes, share(10), share(20))
	t.Logf("two projects are served after %s", time.Since(began).Round(time.Millisecond))
	return f
}

// load starts the users: 30 calls of a function, 20 pages, 10 writes and 20 reads of
// earlier writes a second. In the short set, beside which other tests run, it is half of
// that.
func (f *fixture) load() *testcluster.Load {
	return f.c.Load(
		testcluster.Reads(function, f.hello, "/ping", share(30)),
		testcluster.Reads(website, f.hello, "/", share(20)),
		f.ledger,
	)
}

func share(perSecond float64) float64 {
	if strict() {
		return perSecond
	}
	return perSecond / 2
}

var reporting sync.Mutex

// tell prints figures, and adds them to the report.
func (f *fixture) tell(scenario string, all ...testcluster.Figures) {
	f.Helper()
	for _, one := range all {
		f.Logf("%s: %s", scenario, one)
	}
	if *report == "" {
		return
	}
	reporting.Lock()
	defer reporting.Unlock()
	file, err := os.OpenFile(*report, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if !assert.NoError(f, err) {
		return
	}
	defer file.Close()
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	for _, one := range all {
		_, err := fmt.Fprintf(file, "| %s | %s | %d | %d | %d | %d | %d | %s | %s | %s | %s |\n", scenario, one.Kind, one.Asked, one.Failed, one.Unavailable,
			one.Interrupted, one.Missing, ms(one.P50), ms(one.P99), ms(one.Max), ms(one.Gap))
		assert.NoError(f, err)
	}
}

func (f *fixture) say(format string, args ...any) {
	f.Helper()
	f.Logf(format, args...)
	if *report == "" {
		return
	}
	reporting.Lock()
	defer reporting.Unlock()
	file, err := os.OpenFile(*report, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if assert.NoError(f, err) {
		defer file.Close()
		_, err = fmt.Fprintf(file, "* "+format+"\n", args...)
		assert.NoError(f, err)
	}
}

// figures returns those of all kinds in a stretch of time.
func figures(l *testcluster.Load, from, to time.Time) map[string]testcluster.Figures {
	all := map[string]testcluster.Figures{}
	for _, kind := range l.Kinds() {
		all[kind] = l.Figures(kind, from, to)
	}
	return all
}

// safeRequestsSucceed checks that no safe request got anything but its answer, but
// those that were under way on a gateway that went.
func (f *fixture) safeRequestsSucceed(scenario string, all map[string]testcluster.Figures) {
	f.Helper()
	for _, kind := range []string{function, website, readBack} {
		f.tell(scenario, all[kind])
		assert.NotZero(f, all[kind].OK, "%s: %s", scenario, kind)
		assert.Zero(f, all[kind].Bad(), "%s: %s", scenario, all[kind])
	}
}

// nothingIsLost checks that every acknowledged write can be read.
func (f *fixture) nothingIsLost(scenario string) {
	f.Helper()
	lost, unknown := f.ledger.Lost(20 * time.Second)
	f.say("%s: %d writes were acknowledged, %d are lost, %d can't be read", scenario, f.ledger.Acknowledged(), len(lost), len(unknown))
	assert.Empty(f, some(lost), "%s: lost", scenario)
	assert.Empty(f, some(unknown), "%s: can't be read", scenario)
}

func some(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%d, as %s", len(all), strings.Join(all[:min(len(all), 3)], "; "))
}
