package cloud_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate"
	"github.com/taubyte/taubyte/tns"
)

// counted is an option that counts how often a service takes it.
func counted[O any, F ~func(*O)](n *int, opt F) F {
	return func(o *O) {
		*n++
		opt(o)
	}
}

// A program passes options of its own to each of the eight services.
func TestOptionsOfServices(t *testing.T) {
	testnet.CheckLeaks(t)
	var took [8]int
	n, err := cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), cloud.WithDevelopment(), cloud.WithLogger(testnet.Logger(t)),
		cloud.WithTNS(counted(&took[0], tns.WithHistory(5))),
		cloud.WithAuth(counted(&took[1], auth.WithClock(time.Now))),
		cloud.WithSeer(counted(&took[2], seer.WithPlace("rack 7"))),
		cloud.WithHoarder(counted(&took[3], hoarder.WithCapacity(1<<30))),
		cloud.WithPatrick(counted(&took[4], patrick.WithReconcile(time.Hour))),
		cloud.WithMonkey(counted(&took[5], monkey.WithTimeout(time.Minute))),
		cloud.WithSubstrate(counted(&took[6], substrate.WithGrace(time.Second))),
		cloud.WithGateway(counted(&took[7], gateway.WithGrace(time.Second))))
	require.NoError(t, err)
	require.Equal(t, [8]int{1, 1, 2, 1, 1, 1, 1, 1}, took, "seer's by the heartbeats too")
	require.Equal(t, "rack 7", n.Seer.Nodes()[0].Place)
	require.NoError(t, n.Close())

	// A node without seer says where it is in its heartbeats; other options it has no use for.
	n, err = cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), cloud.WithServices(taubyte.RoleTNS), cloud.WithLogger(testnet.Logger(t)),
		cloud.WithSeer(counted(&took[2], seer.WithPlace("rack 8"))), cloud.WithGateway(counted(&took[7], gateway.WithGrace(time.Second))))
	require.NoError(t, err)
	require.Equal(t, [8]int{1, 1, 3, 1, 1, 1, 1, 1}, took)
	require.NoError(t, n.Close())
}
