package conformance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/testnet"
)

// Secrets and variables in guests as their toolchains make them: stock Go and Rust for
// WASI read them by their standard libraries and by the host's call. Each project, branch
// and function sees its own, a new value without a build, and the log shows none.
func TestSecrets(t *testing.T) {
	const other taubyte.ProjectID = "QmcbMFke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQ"
	const preview, elsewhere = "dev--" + domain, "elsewhere.example.test"
	c := newCloud(t)
	owner, err := auth.New(t.Context(), c.node, c.node.Store, auth.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, owner.Close()) })
	for _, p := range []taubyte.ProjectID{project, other} {
		_, err = owner.CreateProject(t.Context(), auth.Project{ID: p})
		require.NoError(t, err)
	}
	set := func(v environment.Variable, value string) {
		t.Helper()
		v.Value = []byte(value)
		_, err := owner.SetVariable(t.Context(), v)
		require.NoError(t, err)
	}
	token := environment.Variable{Kind: environment.Secret, Project: project, Name: "TOKEN"}
	ofBranch, ofFunction := token, token
	ofBranch.Branch, ofFunction.Function = "dev", "rust"
	set(token, "planted-of-project")
	set(ofBranch, "planted-of-dev")
	set(environment.Variable{Kind: environment.Plain, Project: project, Branch: "main", Name: "MODE"}, "live")

	c.function("guest", stockGo(t, "testdata/guest"), at("secrets"))
	c.function("rust", rust(t, "testdata/rust/environment.rs", "wasm32-wasip1", "wasm32-wasi"))
	require.NoError(t, c.deploy())
	require.NoError(t, c.deployAs(project, "dev", domain))
	require.NoError(t, c.deployAs(other, "main", elsewhere))

	// What each function answers: os.Getenv and secret.Get of TOKEN, os.Getenv of MODE.
	sees := func(host, path, want string) {
		t.Helper()
		began := time.Now()
		testnet.Eventually(t, func() bool {
			w := c.postTo(host, path, "")
			return fmt.Sprintf("%d %s", w.Code, w.Body) == "200 "+want
		}, "%s%s does not answer %q", host, path, want)
		require.Less(t, time.Since(began), 20*time.Second, "a change is seen within seconds")
	}
	const inGo, inRust = "/guest/secrets", "/rust"
	for _, path := range []string{inGo, inRust} {
		sees(domain, path, "planted-of-project planted-of-project live")
		sees(preview, path, "planted-of-dev planted-of-dev ")
		sees(elsewhere, path, " none ")
	}
	set(ofFunction, "planted-of-rust")
	sees(domain, inRust, "planted-of-rust planted-of-rust live")
	sees(domain, inGo, "planted-of-project planted-of-project live")
	set(token, "planted-anew")
	sees(domain, inGo, "planted-anew planted-anew live")
	sees(domain, inRust, "planted-of-rust planted-of-rust live")
	require.NoError(t, owner.RemoveVariable(t.Context(), ofFunction))
	sees(domain, inRust, "planted-anew planted-anew live")
	for _, path := range []string{inGo, inRust} {
		sees(preview, path, "planted-of-dev planted-of-dev ")
		sees(elsewhere, path, " none ")
	}

	for _, line := range []string{"the token is [secret] in Go", "TOKEN=[secret]", "the token is [secret] in Rust"} {
		c.logged(line)
	}
	require.False(t, strings.Contains(c.log.String(), "planted"), "a secret is in the log")
}
