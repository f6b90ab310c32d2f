package testcluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testcluster"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/seer"
)

func TestTogether(t *testing.T) {
	testnet.CheckLeaks(t)
	c := testcluster.StartTogether(t, testcluster.Topology{
		{Name: "one", Roles: "auth,tns,patrick,seer"},
		{Name: "two", Roles: "seer"},
		{Name: "three", Roles: "hoarder"},
	})
	one := c.Node("one")
	health := func(name string) seer.Health {
		for _, n := range one.Seer.Nodes() {
			if n.Name == name {
				return n.Health
			}
		}
		return ""
	}
	c.Await("one sees all", 30*time.Second, func() bool { return health("two") == seer.Alive && health("three") == seer.Alive })
	c.Cut("three")
	c.Await("three is apart", 30*time.Second, func() bool { return health("three") != seer.Alive })
	require.Equal(t, seer.Alive, health("two"))
	c.Heal()
	c.AwaitConnected()
	c.Await("three is back", 30*time.Second, func() bool { return health("three") == seer.Alive })
	c.Node("two").Close()
	c.Node("two").Open()
	c.AwaitConnected()
}
