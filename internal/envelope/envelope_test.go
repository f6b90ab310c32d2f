package envelope_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/envelope"
)

func TestSealAndOpen(t *testing.T) {
	a, err := envelope.NewKey()
	require.NoError(t, err)
	b, err := envelope.NewKey()
	require.NoError(t, err)
	stranger, err := envelope.NewKey()
	require.NoError(t, err)
	secret := []byte("a secret")

	sealed, err := envelope.Seal(secret, a.Recipient(), b.Recipient())
	require.NoError(t, err)
	require.False(t, bytes.Contains(sealed, secret))
	for _, k := range []*envelope.Key{a, b} {
		again, err := envelope.ParseKey(k.Secret())
		require.NoError(t, err)
		got, err := again.Open(sealed)
		require.NoError(t, err)
		require.Equal(t, secret, got)
	}
	_, err = stranger.Open(sealed)
	require.Error(t, err)
	sealed[len(sealed)-1] ^= 1
	_, err = a.Open(sealed)
	require.Error(t, err, "tampered with")
	_, err = envelope.Seal(secret)
	require.Error(t, err, "to nobody")
	_, err = envelope.ParseKey("AGE-SECRET-KEY-1XX")
	require.NotContains(t, err.Error(), "1XX")
}
