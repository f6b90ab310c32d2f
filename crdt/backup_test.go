package crdt_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
)

func TestBackupAndRestore(t *testing.T) {
	nw := testnet.New(t)
	a, b := open(t, nw.Node()), open(t, nw.Node())
	put(t, a, "/same", "1")
	put(t, a, "/changed", "1")
	put(t, a, "/removed", "")
	var backup bytes.Buffer
	require.NoError(t, a.Backup(t.Context(), &backup))
	want := all(t, a)

	put(t, a, "/changed", "2")
	put(t, a, "/new", "2")
	require.NoError(t, a.Delete(t.Context(), key("/removed")))

	whole := backup.Bytes()
	for name, broken := range map[string][]byte{
		"empty":     nil,
		"cut":       whole[:len(whole)-1],
		"cut early": whole[:len(whole)/2],
		"flipped":   append(append([]byte{}, whole[:40]...), append([]byte{whole[40] ^ 1}, whole[41:]...)...),
		"foreign":   []byte(strings.Repeat("x", 100)),
	} {
		require.ErrorIs(t, a.Restore(t.Context(), bytes.NewReader(broken)), taubyte.ErrInvalid, name)
		require.Len(t, all(t, a), 3)
	}
	require.NoError(t, a.Restore(t.Context(), bytes.NewReader(whole)))
	require.Equal(t, want, all(t, a))
	require.NoError(t, b.Synced(t.Context()))
	require.Equal(t, want, all(t, b))
}

func FuzzRestore(f *testing.F) {
	nw := testnet.New(f)
	s := open(f, nw.Node())
	put(f, s, "/a", "1")
	var backup bytes.Buffer
	require.NoError(f, s.Backup(f.Context(), &backup))
	f.Add(backup.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := s.Restore(t.Context(), bytes.NewReader(raw)); err != nil {
			require.ErrorIs(t, err, taubyte.ErrInvalid)
		}
	})
}
