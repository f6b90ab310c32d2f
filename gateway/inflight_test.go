package gateway_test

import (
	"bufio"
	"flag"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testnet"
)

var inFlight = flag.Int("inflight", 0, "how many requests TestInFlight has under way; ulimit -n is twice that and 1,000 more")

// TestInFlight has so many requests of one project under way at a time, of clients at a
// hundred addresses, which two nodes answer when all are there. A test is no place for as
// many as a gateway promises to one project: 10,000.
func TestInFlight(t *testing.T) {
	if *inFlight == 0 {
		t.Skip("-inflight 10000 runs it")
	}
	b := newBench(t)
	var waiting atomic.Int64
	release := make(chan struct{})
	for range 2 {
		b.substrate(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				waiting.Add(1)
				<-release
			}
			_, _ = io.WriteString(w, "ok")
		})
	}
	b.do("POST", site, "/fn", nil)
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before, began := inUse(), time.Now()
	var failed atomic.Int64
	var wg sync.WaitGroup
	places := make(chan struct{}, 64)
	for i := range *inFlight {
		places <- struct{}{}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%100))}, Timeout: 10 * time.Second}
		c, err := d.DialContext(t.Context(), "tcp", b.gateway.Addr())
		require.NoError(t, err)
		wg.Go(func() {
			defer c.Close()
			_, err := io.WriteString(c, "GET /fn HTTP/1.1\r\nHost: "+site+"\r\n\r\n")
			<-places
			if err == nil {
				var resp *http.Response
				if resp, err = http.ReadResponse(bufio.NewReaderSize(c, 512), nil); err == nil && resp.StatusCode != http.StatusOK {
					t.Log(resp.Status)
					failed.Add(1)
				}
			}
			if err != nil {
				t.Log(err)
				failed.Add(1)
			}
		})
	}
	testnet.Eventually(t, func() bool { return waiting.Load()+failed.Load() >= int64(*inFlight) }, "all are under way")
	took := time.Since(began)
	each := float64(inUse()-before) / 1024 / float64(*inFlight)
	began = time.Now()
	resp, _ := b.do("POST", site, "/fn", nil)
	beside := time.Since(began)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	t.Logf("%d requests under way after %s, %d failed; one takes %.1f KiB on user, gateway and node together; one more request took %s", *inFlight, took.Round(time.Millisecond), failed.Load(), each, beside.Round(time.Microsecond))
	close(release)
	wg.Wait()
	require.Zero(t, failed.Load())
}
