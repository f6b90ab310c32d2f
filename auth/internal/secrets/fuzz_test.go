package secrets_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth/internal/secrets"
)

func FuzzKeys(f *testing.F) {
	f.Add("/secrets/values/projects%2FQmX%2Fa/0000000000000001/aa/bb/cc")
	f.Add("/secrets/deleted/a/0000000000000001/x")
	f.Add("/secrets/values/a/1/aa/bb/cc")
	f.Fuzz(func(t *testing.T, key string) {
		if again, ok := secrets.ParseKeys(key); ok {
			require.Equal(t, key, again, "a key has one text")
		}
	})
}

func FuzzSealedValue(f *testing.F) {
	good := secrets.SealRaw([]byte("value"))
	f.Add(good)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if secrets.OpenRaw(raw) == nil {
			require.True(t, bytes.Equal(raw, good) || len(raw) >= len(secrets.SealRaw(nil)))
		}
	})
}

func TestAnAlteredValueDoesNotOpen(t *testing.T) {
	good := secrets.SealRaw([]byte("value"))
	require.NoError(t, secrets.OpenRaw(good))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		require.Error(t, secrets.OpenRaw(bad), "byte %d", i)
	}
}
