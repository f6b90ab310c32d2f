package mask_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/mask"
)

func TestMask(t *testing.T) {
	key := "-----BEGIN KEY-----\nMC4CAQAwBQYDK2Vw\n-----END KEY-----\n"
	m := mask.New("hunter-2-hunter", "hunter-2", "abc", key)
	for in, want := range map[string]string{
		"":                                 "",
		"nothing":                          "nothing",
		"it is hunter-2-hunter.":           "it is [secret].",
		"it is hunter-2.":                  "it is [secret].",
		"two: hunter-2 hunter-2-hunter":    "two: [secret] [secret]",
		"abc is too short":                 "abc is too short",
		"a line MC4CAQAwBQYDK2Vw of a key": "a line [secret] of a key",
		"cut off: hunter-2-hun":            "cut off: [secret]",
		"cut off: MC4CAQAwBQ":              "cut off: [secret]",
	} {
		require.Equal(t, want, string(m.Apply([]byte(in))), in)
	}
	for part, want := range map[string]int{"": 0, "nothing": 0, "it is h": 1, "it is hunter-2-h": 10, "it is hunter-2-hunter": 15, "hunter-2 ": 0} {
		require.Equal(t, want, m.Tail([]byte(part)), part)
	}
	require.Nil(t, mask.New("", "abc", "\n"))
	var none *mask.Mask
	require.Equal(t, "x", string(none.Apply([]byte("x"))))
	require.Zero(t, none.Tail([]byte("x")))
}

func FuzzMask(f *testing.F) {
	f.Add("secret", "a secret here")
	f.Fuzz(func(t *testing.T, secret, line string) {
		m := mask.New(secret)
		if m == nil || strings.Contains(mask.Text, strings.TrimSpace(secret)) {
			return
		}
		out := string(m.Apply([]byte(line)))
		for part := range strings.Lines(secret) {
			part = strings.TrimSpace(part)
			if len(part) >= mask.Shortest && !strings.Contains(part, "[") && !strings.Contains(part, "]") && !strings.Contains(mask.Text, part) {
				require.NotContains(t, out, part)
			}
		}
	})
}
