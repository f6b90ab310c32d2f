package reliability_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testcluster"
)

// pushed: each control node takes pushes of each project, and each push has one result.
func (f *fixture) pushed(each int) {
	f.Helper()
	const scenario = "pushes to either control node"
	control := f.c.Nodes("patrick")
	f.hello.Forget()
	var says string
	for i := range each * len(control) {
		push, content := f.hello.PushPage(control[i%len(control)], "main")
		require.NoError(f, push.Err, "push %d, to %s", i, push.Via)
		says = content
	}
	r, took := f.hello.AwaitResults(time.Minute)
	f.say("%s: %d pushes, %d taken, each with one result %s after the last: %v", scenario, r.Pushes, r.Acked, took.Round(time.Millisecond), r.Good() == nil)
	assert.NoError(f, r.Good(), scenario)
	f.hello.AwaitServed("/version.txt", says)
}

// pushSurvives: the control node that took a push crashes at once and stays away.
func (f *fixture) pushSurvives(name string) {
	f.Helper()
	scenario := name + " killed after it took a push"
	n := f.c.Node(name)
	f.hello.Forget()
	push, says := f.hello.PushPage(n, "main")
	n.Kill()
	at := time.Now()
	require.NoError(f, push.Err)
	for _, other := range f.c.Nodes("patrick") {
		if other == n {
			continue
		}
		f.c.Await("the other control node has the commit", 30*time.Second, func() error {
			heads, err := f.hello.Heads(other)
			if err == nil && !strings.Contains(heads, push.Commit) {
				err = fmt.Errorf("heads of %s: %s", other.Name, heads)
			}
			return err
		})
	}
	f.hello.AwaitServed("/version.txt", says)
	f.say("%s: the push was served %s after that", scenario, time.Since(at).Round(time.Millisecond))
	n.Start()
	f.c.AwaitWhole()
	r, _ := f.hello.AwaitResults(time.Minute)
	assert.NoError(f, r.Good(), scenario)
}

// workerLost: the worker that builds crashes in the middle of it.
func (f *fixture) workerLost() {
	f.Helper()
	const scenario = "the worker killed while it builds"
	f.hello.Forget()
	// A function that has to be compiled.
	file := "code/functions/ping/extra.go"
	f.hello.Commit("main", file, fmt.Sprintf("package main\n\nvar _ = %q\n", time.Now()))
	push := f.hello.Push(f.c.Nodes("patrick")[0], "main")
	require.NoError(f, push.Err)
	var worker *testcluster.Node
	f.c.Await("a worker has the job", 30*time.Second, func() error {
		for _, n := range f.c.Nodes("monkey") {
			if f.hello.Builds(push, n) {
				worker = n
				return nil
			}
		}
		return fmt.Errorf("nobody builds %s", push.Commit)
	})
	worker.Kill()
	at := time.Now()
	r, _ := f.hello.AwaitResults(2 * time.Minute)
	f.say("%s: the push had its result %s after that", scenario, time.Since(at).Round(time.Millisecond))
	assert.NoError(f, r.Good(), scenario)
	worker.Start()
	f.c.AwaitWhole()
}

func TestPushes(t *testing.T) {
	need(t, "long")
	f := setup(t, testcluster.TwoOfEverything())
	f.run("either", func(f *fixture) { f.pushed(4) })
	f.run("survive c1", func(f *fixture) { f.pushSurvives("c1") })
	f.run("survive c2", func(f *fixture) { f.pushSurvives("c2") })
	f.run("worker lost", func(f *fixture) { f.workerLost() })
}
