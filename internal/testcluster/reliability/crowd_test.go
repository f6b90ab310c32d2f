package reliability_test

import (
	"flag"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testcluster"
)

var crowd = flag.Int("sockets", 0, "how many WebSockets TestCrowd opens; ulimit -n is that and 1,000 more")

// TestCrowd has as many users on one page of one project as a gateway promises to one
// project: 20,000. It is no part of either set.
func TestCrowd(t *testing.T) {
	if *crowd == 0 {
		t.Skip("-sockets 20000 runs it")
	}
	c := testcluster.Start(t, testcluster.Config{Nodes: testcluster.Topology{
		{Name: "c", Roles: "auth,tns,patrick,seer,monkey,hoarder"}, {Name: "g", Roles: "gateway"},
		{Name: "s1", Roles: "substrate"}, {Name: "s2", Roles: "substrate"}, {Name: "s3", Roles: "substrate"},
	}})
	c.AwaitWhole()
	chat := c.Deploy("chat", "chat", "/socket")
	f := c.Crowd(chat, c.Node("g"), *crowd)
	t.Log(f)
	require.Zero(t, f.Failed, "%v", f.Why)
	require.Equal(t, *crowd, f.Open)
}
