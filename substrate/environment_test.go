package substrate_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-datastore/query"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns/config"
)

// environ answers its environment, and logs a secret.
func environ(secret string) []byte {
	k := newKeeper()
	name := k.text(secret)
	sizes := k.Import("wasi_snapshot_preview1", "environ_sizes_get", "ii:i")
	get := k.Import("wasi_snapshot_preview1", "environ_get", "ii:i")
	log := k.Import("env", "_log", "ii:")
	value := k.SDK("secretValue", "iii:i")
	length := k.SDK("secretValueSize", "iii:i")
	return k.done(
		name, I32(size), Call(length), Eqz, If,
		name, I32(body), Call(value), Drop,
		I32(body), I32(size), Load, Call(log), End,
		I32(handle), I32(size), Call(sizes), Drop,
		I32(body+4096), I32(out), Call(get), Drop,
		k.answer(out, concat(I32(size), Load)))
}

// theSecret answers a secret by the typed call.
func theSecret(name string) []byte {
	k := newKeeper()
	name2 := k.text(name)
	return k.done(
		k.must("secretValueSize", "iii:i", name2, I32(size)),
		k.must("secretValue", "iii:i", name2, I32(out)),
		k.answer(out, concat(I32(size), Load)))
}

// body is what a call is answered with 200.
func (c *cloud) body(path string) string {
	text, ok := strings.CutPrefix(c.get(path), "200 ")
	if !ok {
		return "error: " + text
	}
	return text
}

// A function sees what is set for it, in the way that counts, new values within seconds
// and without a deployment, and its log shows no secret.
func TestEnvironment(t *testing.T) {
	log := &testbin.Buffer{}
	c := newCloud(t, substrate.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	owner, err := auth.New(t.Context(), c.node, c.node.Store, auth.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, owner.Close()) })
	ctx := t.Context()
	for _, p := range []taubyte.ProjectID{project, "QmOther"} {
		_, err = owner.CreateProject(ctx, auth.Project{ID: p})
		require.NoError(t, err)
	}
	set := func(kind environment.Kind, p taubyte.ProjectID, branch taubyte.Branch, function, name, value string) {
		t.Helper()
		_, err := owner.SetVariable(ctx, environment.Variable{Kind: kind, Project: p, Branch: branch, Function: function, Name: name, Value: []byte(value)})
		require.NoError(t, err)
	}
	set(environment.Plain, project, "", "", "MODE", "of-project")
	set(environment.Plain, project, "main", "", "MODE", "of-main")
	set(environment.Secret, project, "", "shop/nested", "ONLY", "planted-nested")
	set(environment.Secret, project, "", "", "TOKEN", "planted-one")
	set(environment.Secret, "QmOther", "", "", "FOREIGN", "planted-foreign")
	set(environment.Secret, project, "dev", "", "FOREIGN", "planted-foreign")

	nested := fn("nested", "/nested", environ("ONLY"))
	add := nested.add
	nested.add, nested.app = nil, func(p *config.Project) {
		app := config.Application{ID: "app", Name: "shop"}
		add(&app.Resources)
		p.Applications = append(p.Applications, app)
	}
	c.deploy(fn("env", "/env", environ("TOKEN")), fn("secret", "/secret", theSecret("TOKEN")), fn("plain", "/plain", theSecret("MODE")), nested)
	variables := func(path string) string {
		all := strings.Split(strings.TrimSuffix(c.body(path), "\x00"), "\x00")
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	testnet.Eventually(t, func() bool { return variables("/env") == "MODE=of-main TOKEN=planted-one" }, "environment: %q", variables("/env"))
	testnet.Eventually(t, func() bool { return c.body("/secret") == "planted-one" }, "secret")
	require.NotContains(t, c.body("/plain"), "of-main", "what is no secret is not given as one")
	testnet.Eventually(t, func() bool { return variables("/nested") == "MODE=of-main ONLY=planted-nested TOKEN=planted-one" }, "application: %q", variables("/nested"))

	// A change reaches instances that are warm.
	for i := range 3 {
		value := fmt.Sprint("planted-again-", i)
		began := time.Now()
		set(environment.Secret, project, "main", "secret", "TOKEN", value)
		testnet.Eventually(t, func() bool { return c.body("/secret") == value }, "not seen")
		took := time.Since(began)
		t.Logf("a new value was seen after %s", took.Round(time.Millisecond))
		require.Less(t, took, 20*time.Second)
		require.Equal(t, "MODE=of-main TOKEN=planted-one", variables("/env"), "it is the other function's")
	}
	require.NoError(t, owner.RemoveVariable(ctx, environment.Variable{Kind: environment.Secret, Project: project, Branch: "main", Function: "secret", Name: "TOKEN"}))
	testnet.Eventually(t, func() bool { return c.body("/secret") == "planted-one" }, "the next that counts")
	require.NoError(t, owner.RemoveVariable(ctx, environment.Variable{Kind: environment.Secret, Project: project, Name: "TOKEN"}))
	testnet.Eventually(t, func() bool { return variables("/env") == "MODE=of-main" }, "removed: %q", variables("/env"))

	audit, err := owner.AuditLog(ctx, project, 100)
	require.NoError(t, err)
	for _, x := range audit.Accesses {
		require.Equal(t, x.Action == "read", strings.HasPrefix(x.Who, "node "), "%+v", x)
	}

	testnet.Eventually(t, func() bool { return strings.Contains(log.String(), "[secret]") }, "what it logged")
	require.NotContains(t, log.String(), "planted")
	res, err := c.node.Store.Query(ctx, query.Query{})
	require.NoError(t, err)
	entries, err := res.Rest()
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, string(e.Value), "planted", e.Key)
	}
}

// While a function is called, its variables change all the time: each call sees one whole
// state, and none fails.
func TestEnvironmentChangesUnderLoad(t *testing.T) {
	c := newCloud(t)
	owner, err := auth.New(t.Context(), c.node, c.node.Store, auth.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, owner.Close()) })
	_, err = owner.CreateProject(t.Context(), auth.Project{ID: project})
	require.NoError(t, err)
	set := func(value string) {
		_, err := owner.SetVariable(t.Context(), environment.Variable{Kind: environment.Secret, Project: project, Name: "TOKEN", Value: []byte(value)})
		require.NoError(t, err)
	}
	set("value-0")
	c.deploy(fn("secret", "/secret", theSecret("TOKEN")))
	testnet.Eventually(t, func() bool { return c.body("/secret") == "value-0" }, "first")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if got := c.body("/secret"); !strings.HasPrefix(got, "value-") {
					t.Errorf("a call was answered %q", got)
					return
				}
			}
		})
	}
	for i := range 10 {
		set(fmt.Sprint("value-", i))
	}
	testnet.Eventually(t, func() bool { return c.body("/secret") == "value-9" }, "last")
	stop()
	wg.Wait()
}
