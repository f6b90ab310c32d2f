package tns

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
)

// Whatever stands in the store or comes in a block is read, or refused, and what is
// read is written the same.
func FuzzCodec(f *testing.F) {
	f.Add("/history/p/feature%2Fx/0000000000000007/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", []byte(`{"project":"p","sequence":1,"parts":{"r":{"order":1,"config":{"id":"p","domains":[{"fqdn":"a.b"}]}}}}`))
	f.Add("/verified/a.example/p/01700000000000000000/yes", []byte(`{"claims":{"a.b":"2020-01-01T00:00:00Z"}}`))
	f.Add("/history/p/%zz/1/x", []byte(`[]`))
	f.Fuzz(func(t *testing.T, key string, raw []byte) {
		if e, err := parseEntry(key); err == nil {
			again, err := parseEntry(e.key().String())
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
		if host, st, err := parseStatement(key); err == nil && st.at.UnixNano() >= 0 {
			h, again, err := parseStatement(statementKey(host, st.project, st.at, st.yes).String())
			require.NoError(t, err)
			require.Equal(t, host, h)
			require.True(t, st.at.Equal(again.at) && st.yes == again.yes && st.project == again.project)
		}
		var o origin
		_ = json.Unmarshal(raw, &o)
		d, err := decode(raw)
		if err != nil {
			return
		}
		block, err := encode(d)
		if err != nil {
			return // a time beyond what JSON writes
		}
		same, err := decode(block.RawData())
		require.NoError(t, err)
		again, err := encode(same)
		require.NoError(t, err)
		require.Equal(t, block.Cid(), again.Cid())
		merged, _ := encode(merge(d, same))
		other, _ := encode(merge(same, d))
		if merged != nil && other != nil {
			require.Equal(t, merged.Cid(), other.Cid())
		}
		opts := &options{zone: "z.example", production: nil}
		newFeed(opts).claims(d)
		_, _ = compare(d, same)
	})
}

// The decoder of this package and encoding/json read the same.
func FuzzUnmarshal(f *testing.F) {
	whole := `{"project":"p","branch":"m","sequence":7,"time":"2020-01-01T00:00:00Z","built":{"r":18},"claims":{"a.b":"2020-01-01T00:00:00Z"},"parts":{"r":{"repository":"r","commit":"c","order":1,
		"assets":{"f":{"/":"bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"}},"config":{"id":"p","egress":{"allow":[]},
		"functions":[{"id":"f","name":"\u00e4\n","local":true,"timeout":-5,"memory":32,"paths":["/a","/b"],"domains":[]}],
		"applications":[{"id":"a","tags":["x"],"databases":[{"id":"d","useRegex":false}],"websites":[{"id":"w","provider":"github"}]}]}}}}`
	for _, s := range []string{
		whole, `{"project":"p","deployment":` + whole + `,"hosts":[{"host":"a.b","verified":true,"rank":1}],"conflicts":[{"project":"q","host":"h","state":"lost"}],"token":"t"}`,
		`{}`, `null`, `{"parts":null}`, `{"Project":"p"}`, `{"project":"a","project":"b"}`, `{"parts":{"a":{},"a":{"order":1}}}`, `{"sequence":1.0}`, `{"sequence":01}`,
		`{"sequence":-1}`, `{"sequence":184467440737095516150}`, "{\"project\":\"\xff\"}", `{"project":"p"} x`, `{"time":7}`, `{"time":"x"}`, `{"more":[1,{"a":null}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		same(t, new(Deployment), raw)
		same(t, new(Change), raw)
	})
}

func same[T Deployment | Change](t *testing.T, want *T, raw []byte) {
	wantErr := json.Unmarshal(raw, want)
	got, err := unmarshal[T](raw)
	require.Equal(t, wantErr == nil, err == nil, "%v, not %v", err, wantErr)
	if err == nil {
		require.Equal(t, want, got)
	}
}

// A root leads to the JSON that was cut, or is an error.
func FuzzRoot(f *testing.F) {
	project := &Deployment{Project: "p", Branch: "main", Sequence: 1, Parts: map[taubyte.RepositoryID]Part{"r": {Repository: "r", Commit: taubyte.Commit(strings.Repeat("x", 200))}}}
	project.Claims = map[string]time.Time{strings.Repeat("x", 2*blockBytes): {}}
	long, err := cut(project)
	require.NoError(f, err)
	blocks := map[cid.Cid][]byte{}
	for _, b := range long.all() {
		blocks[b.Cid()] = b.RawData()
	}
	f.Add(long.head.RawData())
	project.Claims = map[string]time.Time{strings.Repeat("x", maxBlocks*blockBytes): {}}
	_, err = cut(project)
	require.ErrorIs(f, err, taubyte.ErrTooLarge)
	f.Add([]byte(`{"version":2,"size":1,"blocks":[{"/":"bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"}],"parts":"in blocks"}`))
	f.Add([]byte(`{"version":3}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		head, err := rootOf(raw)
		require.NoError(t, err)
		whole, err := join(t.Context(), head.Cid(), func(_ context.Context, c cid.Cid) ([]byte, error) {
			if c == head.Cid() {
				return raw, nil
			}
			if b, ok := blocks[c]; ok {
				return b, nil
			}
			return nil, taubyte.ErrNotFound
		})
		if err != nil {
			return
		}
		if head.Cid() == long.head.Cid() {
			d, err := decode(whole)
			require.NoError(t, err)
			require.Len(t, d.Claims, 1)
		}
		_, err = decode(raw)
		require.Error(t, err, "who knows no roots does not take one for a deployment")
	})
}
