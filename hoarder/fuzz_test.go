package hoarder_test

import (
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/hoarder"
)

// Every key of a database has a place of its own that is a clean key of the datastore.
func FuzzKeys(f *testing.F) {
	for _, key := range []string{"a", "/", "//", "a/+b", "+", "..", "a/../b", ".", "/+/+/"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		at := hoarder.EntryKey(key)
		require.Equal(t, key, hoarder.EntryName(at))
		require.Equal(t, at, ds.NewKey(at).String())
	})
}

// What other replicas say is read or refused; and what is read means the same when it
// is written again.
func FuzzParse(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Add([]byte(`{"name":"f","version":1,"size":3,"cid":{"/":"bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"},"time":"2026-01-02T03:04:05Z","nonce":"00"}`))
	f.Add([]byte(`{"12D3KooWN6QYPyTRrMYzpmPmFFQBD493xm1iF3GbzeeEgppST7hg":7}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, again := range hoarder.Parse(b) {
			found := false
			for _, third := range hoarder.Parse(again) {
				found = found || string(third) == string(again)
			}
			require.True(t, found, "%q", again)
		}
	})
}
