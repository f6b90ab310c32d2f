package testnet

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where FreePort looks: below the ports that systems give to who asks for any, so that no
// connection that begins meanwhile takes what the test has still to listen on.
const firstPort, lastPort = 10_000, 32_000

// FreePort returns a TCP port at which nobody listens on the addresses, 127.0.0.1 unless
// they are given. It is the test's until it ends, also while nobody listens: no other
// test gets it, in this process or another.
func FreePort(t testing.TB, addrs ...string) int {
	t.Helper()
	if len(addrs) == 0 {
		addrs = []string{"127.0.0.1"}
	}
	for range 100 {
		port := firstPort + rand.N(lastPort-firstPort)
		// The UDP port of the same number, which no test wants, says whose it is.
		claim, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))))
		if err != nil {
			continue
		}
		if !free(addrs, port) {
			_ = claim.Close()
			continue
		}
		t.Cleanup(func() { _ = claim.Close() })
		return port
	}
	require.FailNow(t, "no free port")
	return 0
}

func free(addrs []string, port int) bool {
	for _, a := range addrs {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(a), uint16(port))))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
