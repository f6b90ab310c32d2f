package tns_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

// What was confirmed is not lost with the node that confirmed it, however soon that
// dies.
func TestAPublicationOutlivesItsNode(t *testing.T) {
	for range 4 {
		nw := testnet.New(t)
		a := nw.Node(taubyte.RoleTNS)
		sa, err := tns.New(t.Context(), a, a.Store, tns.WithOpenDomains(), tns.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		others := []*tns.Service{service(t, nw.Node(taubyte.RoleTNS), tns.WithOpenDomains()), service(t, nw.Node(taubyte.RoleTNS), tns.WithOpenDomains())}
		claim(t, sa, shop, "main", 1, "h.example.com")
		for _, s := range others {
			testnet.Eventually(t, func() bool { _, err := s.Current(t.Context(), shop, "main"); return err == nil }, "they know each other")
		}

		claim(t, sa, shop, "main", 2, "h.example.com", "i.example.com")
		require.NoError(t, a.Close()) // at once, the host under the service
		_ = sa.Close()
		nw.Forget(a)
		for _, s := range others {
			testnet.Eventually(t, func() bool {
				d, err := s.Current(t.Context(), shop, "main")
				return err == nil && d.Sequence == 2
			}, "the others have it")
			all, err := s.History(t.Context(), shop, "main")
			require.NoError(t, err)
			require.Len(t, all, 2)
			require.False(t, all[0].Missing)
		}
		claim(t, others[1], shop, "main", 3, "h.example.com")
		testnet.Eventually(t, func() bool {
			d, err := others[0].Current(t.Context(), shop, "main")
			return err == nil && d.Sequence == 3
		}, "and go on")
	}
}

func TestOnlyMembersHandInCopies(t *testing.T) {
	nw := testnet.New(t)
	s := nw.Node(taubyte.RoleTNS)
	service(t, s, tns.WithOpenDomains())
	stranger, member := nw.Node(taubyte.RoleMonkey), nw.Node(taubyte.RoleTNS)
	require.ErrorIs(t, tns.HandIn(t.Context(), stranger, s.ID(), []byte("{}")), taubyte.ErrForbidden)
	require.ErrorIs(t, tns.HandIn(t.Context(), member, s.ID(), []byte("no deployment")), taubyte.ErrInvalid)
	require.ErrorIs(t, tns.HandIn(t.Context(), member, s.ID(), []byte(`{"project":"P", "unknown": 1}`)), taubyte.ErrInvalid)
	// A member of a later version hands in what this one does not know.
	require.NoError(t, tns.HandIn(t.Context(), member, s.ID(), []byte(`{"project":"P","branch":"main","sequence":1,"unknown":{"a":[1]}}`)))
}
