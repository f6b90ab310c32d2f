package monkey_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
)

// keeping is a queue that has variables for builds.
type keeping struct {
	*queue
	mu    sync.Mutex
	asked []patrick.EnvironmentRequest
	all   []environment.Variable
}

func (k *keeping) Environment(_ context.Context, _ patrick.Lease, r patrick.EnvironmentRequest) (out []environment.Variable, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, r)
	for _, n := range r.Names {
		found := false
		for _, v := range k.all {
			if v.Name == n {
				out, found = append(out, v), true
			}
		}
		if !found {
			return nil, fmt.Errorf("%w build: %s is not set", taubyte.ErrInvalid, n)
		}
	}
	return out, nil
}

// Secrets are in a build whose workflow names them, masked in its log, and part of what
// the build depends on.
func TestSecretsInABuild(t *testing.T) {
	b := newBench(t)
	k := &keeping{queue: b.queue, all: []environment.Variable{
		{Kind: environment.Secret, Name: "TOKEN", Value: []byte("planted-one"), Version: 1},
		{Kind: environment.Plain, Name: "MODE", Value: []byte("fast"), Version: 1},
		{Kind: environment.Secret, Name: "OTHER", Value: []byte("planted-other"), Version: 1},
	}}
	b.start(t, monkey.WithPatrick(k))
	push := func(asks string) (*queued, patrick.Outcome) {
		j := b.push(repo, auth.KindProject, project(shFunction, map[string]string{
			"websites/site/.taubyte/config.yaml": "environment:\n" + asks + "workflow: [build]",
			"websites/site/.taubyte/build.sh":    "echo \"has $TOKEN and $MODE and ${OTHER:-no other}\"; env | grep -c planted; echo \"$TOKEN\" > $OUT/index.html\n",
		}))
		return j, b.wait(t, j)
	}
	j, out := push("  secrets: [TOKEN]\n  env: [MODE]\n")
	require.Equal(t, patrick.Succeeded, out.State, "%s\n%s", out.Error, b.text(j))
	require.Contains(t, b.text(j), "has [secret] and fast and no other\n")
	require.NotContains(t, b.text(j), "planted")
	pages, _ := b.current(t).Asset(websiteID)
	require.Equal(t, "planted-one\n", b.read(t, pages, "index.html"))
	k.mu.Lock()
	require.Equal(t, []patrick.EnvironmentRequest{{Names: []string{"MODE", "TOKEN"}}}, k.asked)
	k.mu.Unlock()
	_, out = push("  secrets: [TOKEN]\n  env: [MODE]\n")
	require.True(t, cached(out)["website site"], "nothing has changed: %v", out.Steps)
	k.mu.Lock()
	k.all[0].Value, k.all[0].Version = []byte("planted-two"), 2
	k.mu.Unlock()
	_, out = push("  secrets: [TOKEN]\n  env: [MODE]\n")
	require.False(t, cached(out)["website site"], "the secret has")
	pages, _ = b.current(t).Asset(websiteID)
	require.Equal(t, "planted-two\n", b.read(t, pages, "index.html"))

	j = b.push(repo, auth.KindProject, project(shFunction, map[string]string{
		"websites/site/.taubyte/config.yaml": "environment:\n  secrets: [TOKEN]\nworkflow: [build]",
		"websites/site/.taubyte/build.sh":    "ln -s nowhere \"$OUT/of-$TOKEN\"\n",
	}))
	out = b.wait(t, j)
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "of-[secret]", "what is wrong is said without it")
	require.NotContains(t, out.Error+b.text(j), "planted")

	j, out = push("  image: x\n")
	require.Equal(t, patrick.Succeeded, out.State)
	require.Contains(t, b.text(j), "has  and  and no other", "none is there that is not named")
	_, out = push("  secrets: [MISSING]\n")
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "MISSING")
	_, out = push("  secrets: ['A B']\n")
	require.Equal(t, patrick.Failed, out.State)
}
