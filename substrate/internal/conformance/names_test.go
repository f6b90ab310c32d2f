package conformance_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/guestabi"
)

// Every name of taubyte/sdk is called by one of the guests that these tests run, but for
// those that no SDK calls, and those that need a chain: hand-written modules
// call them in the tests of package abi.
func TestEveryNameHasAGuest(t *testing.T) {
	called := map[string]bool{}
	for _, module := range [][]byte{
		stockGo(t, "testdata/guest"), stockGo(t, withExamples(t, "testdata/public")),
		rust(t, "testdata/rust/guest.rs"), assemblyScript(t, "testdata/assemblyscript/guest.ts"),
	} {
		for _, name := range imports(t, module) {
			called[name] = true
		}
	}
	n := 0
	var none []string
	for _, name := range slices.Sorted(maps.Keys(guestabi.Functions("taubyte/sdk"))) {
		if slices.Contains([]string{"getTimerEventScheduled", "secretValue", "secretValueSize"}, name) {
			continue // no SDK but the node's own has them
		}
		n++
		if !called[name] && !strings.HasPrefix(name, "eth") {
			none = append(none, name)
		}
	}
	require.Equal(t, 182, n)
	require.Equal(t, []string{"getP2PEventFromSize", "getP2PEventToSize"}, none)
}

// imports lists the functions of taubyte/sdk that a module imports.
func imports(t *testing.T, module []byte) (names []string) {
	t.Helper()
	r := bytes.NewReader(module[8:])
	number := func(r *bytes.Reader) int {
		n, err := binary.ReadUvarint(r)
		require.NoError(t, err)
		return int(n)
	}
	take := func(r *bytes.Reader) string {
		b := make([]byte, number(r))
		_, err := r.Read(b)
		require.NoError(t, err)
		return string(b)
	}
	for r.Len() > 0 {
		id, err := r.ReadByte()
		require.NoError(t, err)
		section := bytes.NewReader([]byte(take(r)))
		if id != 2 {
			continue
		}
		for range number(section) {
			from, name := take(section), take(section)
			kind, err := section.ReadByte()
			require.NoError(t, err)
			require.Zero(t, kind, "a function")
			number(section)
			if from == "taubyte/sdk" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
