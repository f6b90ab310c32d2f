package localgit_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/localgit"
)

// access lets "reader" read and "writer" write, by their passwords.
func access() localgit.Access {
	return localgit.Access{
		Caller: func(w http.ResponseWriter, r *http.Request) (taubyte.Principal, bool) {
			_, password, _ := r.BasicAuth()
			p := taubyte.Principal{Kind: taubyte.KindUser, Name: password, AllProjects: true}
			switch password {
			case "writer":
				p.Verb = taubyte.VerbDeploy
			case "reader":
				p.Verb = taubyte.VerbRead
			default:
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return p, false
			}
			return p, true
		},
		Repository: func(ctx context.Context, name string, write bool) error {
			return taubyte.PrincipalOf(ctx).MayGit(auth.NewRepositoryID("local", name), "", write)
		},
	}
}

func TestAPushIsRefusedInWords(t *testing.T) {
	seen := make(chan taubyte.Principal, 8)
	a := access()
	a.Push = func(ctx context.Context, name string, p auth.Push) error {
		seen <- taubyte.PrincipalOf(ctx)
		if p.Branch == "secret" {
			return fmt.Errorf("%w: %s is not for you", taubyte.ErrForbidden, name)
		}
		return nil
	}
	b := newBench(t, localgit.WithAccess(a))
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "--allow-empty", "-m", "x")
	out, err := tryGit(t, dir, "push", b.remote("writer", "shop"), "main:secret", "main:open")
	require.Error(t, err)
	require.Contains(t, out, "forbidden: shop is not for you")
	require.Equal(t, "writer", (<-seen).Name)
	heads, err := tryGit(t, dir, "ls-remote", b.remote("reader", "shop"))
	require.NoError(t, err)
	require.Contains(t, heads, "refs/heads/open")
	require.NotContains(t, heads, "secret")
	out, err = tryGit(t, dir, "push", "--atomic", b.remote("writer", "shop"), "main:secret", "main:other")
	require.Error(t, err)
	require.Contains(t, out, "atomic transaction failed")
	require.Len(t, b.told(), 1)

	// Who may read is told that he may not push.
	out, err = tryGit(t, dir, "push", b.remote("reader", "shop"), "main:open")
	require.Error(t, err)
	require.Contains(t, out, "403")
	require.True(t, strings.Contains(out, "reader"), out)
}
