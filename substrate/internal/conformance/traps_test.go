package conformance_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// The traps of the interface, by their numbers in its description, and what is done
// about each. Where a trap needs a module in Go, a family of TestGuestSDK or of
// TestPublicSDK has it:
//
//	 1 names of headers, four spellings     TestTrap01 (Rust's), http of both SDKs (Go's)
//	 2 a header's raw value                 TestTrap02, fetch of the public SDK
//	 3 selfBranch is the plain name         self of both SDKs
//	 4 fifoClose is an export of TinyGo's   TestTrap04, memory of the public SDK
//	 5 write, then the status               TestTrap05
//	 6 the entry point's result             TestTrap06
//	 7 the list of an empty storage         storage of the public SDK
//	 8 slashes in a channel's name          publish of both SDKs
//	 9 the types of all functions           abi: TestEveryNameLinks
//	10 discoverPeers waits nanoseconds      command of both SDKs
//	11 getters of another kind of event     TestTrap11, onMessage of testdata/guest
//	12 getOrCreateGlobalValueSize           globals of the public SDK
//	13 how keys are listed                  database of both SDKs
//	14 a store is told by its name          database of testdata/guest
//	15 who is subscribed                    publish of both SDKs: by configuration
//	16 storageGet                           storage of the public SDK
//	17 proc_exit(0) at the end of _start    TestTrap17
//	18 Go takes 4 MiB at once               TestTrap18
//	19 addresses that are refused           TestTrap19
//	20 a request's body by reference        TestTrap20

// one is a cloud with one function.
func one(t *testing.T, module []byte, change ...func(*config.Function)) *cloud {
	t.Helper()
	c := newCloud(t)
	c.function("f", module, change...)
	require.NoError(t, c.deploy())
	return c
}

func call(name string) func(*config.Function) {
	return func(f *config.Function) { f.Call = name }
}

func TestTrap01HeaderNames(t *testing.T) {
	c := one(t, rust(t, "testdata/rust/guest.rs"), call("http"))
	w := c.post("/f", "body", "X-Word", "mellon", "X-Other", "1")
	require.Equal(t, "201 mellon: body", fmt.Sprintf("%d %s", w.Code, w.Body))
}

func TestTrap02RawHeader(t *testing.T) {
	c := one(t, rust(t, "testdata/rust/guest.rs"), call("fetch"))
	require.Equal(t, 200, c.post("/f", far(t).URL).Code, "it checks that the other side got the header")
}

func TestTrap04FifoCloseIsNoEntryPoint(t *testing.T) {
	c := newCloud(t)
	c.library("sums", wat(t, "testdata/wat/library.wat"))
	c.function("f", wat(t, "testdata/wat/user.wat"))
	require.NoError(t, c.deploy())
	c.answers("/f", "1")
}

func TestTrap05WriteThenStatus(t *testing.T) {
	c := one(t, wat(t, "testdata/wat/fails.wat"))
	w := c.post("/f", "")
	require.Equal(t, "500 oops", fmt.Sprintf("%d %s", w.Code, w.Body), "nothing had left")
	require.Empty(t, w.Header().Get("oops"), "the first write has fixed the header")
}

func TestTrap06ResultIsIgnored(t *testing.T) {
	c := one(t, wat(t, "testdata/wat/nonzero.wat"))
	c.answers("/f", "1")
	c.answers("/f", "1")
}

func TestTrap11OtherKindsOfEvents(t *testing.T) {
	c := one(t, wat(t, "testdata/wat/kinds.wat"))
	c.answers("/f", "\x04\x04\x04\x0d") // pub/sub, p2p, timer; and a response before the request was sent
}

func TestTrap17ExitOfStart(t *testing.T) {
	c := one(t, wat(t, "testdata/wat/exit0.wat"))
	c.answers("/f", "1")
	c.answers("/f", "1")
	require.Equal(t, 500, one(t, wat(t, "testdata/wat/exit3.wat")).post("/f", "").Code)
}

// Ten megabytes are enough for Go, and one is refused in words.
func TestTrap18MemoryOfGo(t *testing.T) {
	module := stockGo(t, "testdata/guest")
	memory := func(size int64) func(*config.Function) {
		return func(f *config.Function) { f.Memory = size }
	}
	c := one(t, module, at("self"), memory(10<<20), func(f *config.Function) { f.Name, f.Paths = "guest", []string{"/guest/http"} })
	require.Equal(t, 500, c.post("/guest/http", "").Code, "it checks what it was sent, and says so")
	require.Contains(t, c.post("/guest/http", "").Body.String(), "body: ")
	c = newCloud(t)
	c.function("f", module, memory(1<<20))
	err := c.deploy()
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	require.ErrorContains(t, err, "1024 KiB")
}

func TestTrap19PrivateAddresses(t *testing.T) {
	c := one(t, rust(t, "testdata/rust/guest.rs"), call("fetch"))
	for _, url := range []string{"http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://[::1]:80/", "http://168.63.129.16/"} {
		require.Equal(t, 500, c.post("/f", url).Code, url)
	}
}

func TestTrap20BodyByReference(t *testing.T) {
	c := one(t, rust(t, "testdata/rust/guest.rs"), call("fetch"))
	w := c.post("/f", far(t).URL)
	require.Equal(t, `far got "by reference"`, w.Body.String(), "what it was at the call, and not what came there later")
}
