package localgit_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth/localgit"
)

const someHash = "1111111111111111111111111111111111111111"

func FuzzCommands(f *testing.F) {
	f.Add([]byte("0000"))
	f.Add([]byte("0067" + someHash + " " + someHash + " refs/heads/main\x00 report-status0000PACK"))
	f.Add([]byte("0035shallow " + someHash + "\n0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		refs, err := localgit.ReadCommands(bytes.NewReader(b))
		if err == nil {
			require.LessOrEqual(t, len(refs)*90, len(b))
		}
	})
}

func FuzzEntry(f *testing.F) {
	key := "/refs/shop/refs%2Fheads%2Fmain/00000000000000000007-12D3KooW"
	f.Add(key, []byte(`{"new":"`+someHash+`"}`))
	f.Add("/refs/shop/HEAD/00000000000000000007-12D3KooW", []byte(`{"new":"refs/heads/main"}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if again, ok := localgit.ParseEntry(key, value); ok {
			twice, ok := localgit.ParseEntry(again, value)
			require.True(t, ok)
			require.Equal(t, again, twice)
		}
	})
}

// The names that are taken are names that git takes.
func TestNamesOfReferences(t *testing.T) {
	for _, ref := range []string{
		"refs/heads/main", "refs/heads/a/b.c", "refs/heads/ü", "refs/heads/-x", "refs/heads/a..b", "refs/heads/.a", "refs/heads/a.lock",
		"refs/heads/a.lock/b", "refs/heads/a b", "refs/heads/a~1", "refs/heads/a^", "refs/heads/a:b", "refs/heads/a?", "refs/heads/a[", "refs/heads/a*",
		"refs/heads/a\\b", "refs/heads/a@{b", "refs/heads/a.", "refs/heads/", "refs/heads//a", "refs/heads/a\x7f", "refs/heads/a\x01", "HEAD", "refs", "main",
	} {
		err := exec.Command("git", "check-ref-format", ref).Run()
		git := err == nil && strings.HasPrefix(ref, "refs/")
		require.Equal(t, git, localgit.CheckRef(ref) == nil, "%q", ref)
	}
}
