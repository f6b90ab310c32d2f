package taubyte

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/davidlazar/go-crypto/salsa20"
	pool "github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A libp2p private network has one pre-shared key, for as long as its hosts live. This
// is the same protocol with several: what a connection sends is a nonce of 24 bytes and
// then everything xored with XSalsa20 under that nonce and a key. Who accepts a
// connection finds the key by what the first bytes have to be; who dials takes the
// current one, and when the other side does not understand that, another. A peer that
// has one of the keys and uses libp2p's own private network is understood.

// opening is how every connection begins below the pre-shared key: the header of
// multistream-select.
const opening = "\x13/multistream/1.0.0\n"

const (
	nonceSize = 24
	// dialTime is what a dial has to be understood when there are further keys.
	// libp2p gives a dial of an address nearby five seconds in all.
	dialTime = 2 * time.Second
)

// errUnknownKey says that a connection is under none of the network's keys.
var errUnknownKey = errors.New("under no key of this network")

// swarmKeys returns the keys of the network, first the one to dial with. There is at
// least one.
type swarmKeys func() []pnet.PSK

// transport makes the TCP transport of a host: fx, in libp2p, calls it.
func (k swarmKeys) transport(u transport.Upgrader, rcmgr network.ResourceManager, shared *tcpreuse.ConnMgr) (*swarmTransport, error) {
	t, err := tcp.NewTCPTransport(swarmUpgrader{u, k}, rcmgr, shared, tcp.DisableReuseport())
	return &swarmTransport{t, k}, err
}

// attempt is a dial under one key. It goes to the upgrader in the context.
type attempt struct {
	key     pnet.PSK
	reached bool // there was a connection
}

type attemptKey struct{}

// swarmTransport dials with one key after the other.
type swarmTransport struct {
	*tcp.TcpTransport
	keys swarmKeys
}

var _ transport.DialUpdater = (*swarmTransport)(nil)

func (t *swarmTransport) Dial(ctx context.Context, raddr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	return t.DialWithUpdates(ctx, raddr, p, nil)
}

func (t *swarmTransport) DialWithUpdates(ctx context.Context, raddr ma.Multiaddr, p peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	keys := t.keys()
	var errs []error
	for i, key := range keys {
		a := &attempt{key: key}
		dial, cancel := context.WithValue(ctx, attemptKey{}, a), context.CancelFunc(func() {})
		if i < len(keys)-1 {
			dial, cancel = context.WithTimeout(dial, dialTime)
		}
		c, err := t.TcpTransport.DialWithUpdates(dial, raddr, p, updates)
		cancel()
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
		if !a.reached || ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// swarmUpgrader puts the key below everything else of a connection.
type swarmUpgrader struct {
	transport.Upgrader
	keys swarmKeys
}

func (u swarmUpgrader) Upgrade(ctx context.Context, t transport.Transport, c manet.Conn, dir network.Direction, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	s := &swarmConn{Conn: c, keys: u.keys}
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		a.reached = true
		if dir == network.DirOutbound {
			s.dialled = a.key
		}
	}
	return u.Upgrader.Upgrade(ctx, t, s, dir, p, scope)
}

func (u swarmUpgrader) UpgradeListener(t transport.Transport, l manet.Listener) transport.Listener {
	return u.UpgradeGatedMaListener(t, u.GateMaListener(l))
}

func (u swarmUpgrader) UpgradeGatedMaListener(t transport.Transport, l transport.GatedMaListener) transport.Listener {
	return u.Upgrader.UpgradeGatedMaListener(t, swarmListener{l, u.keys})
}

type swarmListener struct {
	transport.GatedMaListener
	keys swarmKeys
}

func (l swarmListener) Accept() (manet.Conn, network.ConnManagementScope, error) {
	c, scope, err := l.GatedMaListener.Accept()
	if err != nil {
		return nil, nil, err
	}
	return &swarmConn{Conn: c, keys: l.keys, scope: scope}, scope, nil
}

// swarmConn is a connection under a key. One goroutine reads and one writes.
type swarmConn struct {
	manet.Conn
	dialled pnet.PSK                    // the key, on the side that dialled
	scope   network.ConnManagementScope // on the side that accepts

	keys  swarmKeys
	mu    sync.Mutex // of the side that accepts: held until the key is found
	found pnet.PSK
	err   error // no key was found

	read  cipher.Stream // of the goroutine that reads, once the key is found
	ahead []byte        // was read to find the key
	write cipher.Stream // of the goroutine that writes
}

// Close ends what the connection counts for as well. libp2p does that where it closes a
// connection; but one that the peer ended before it was accepted, it drops, and the peer
// would have one connection less from then on. Before the connection has a peer, this is
// left to whoever is negotiating it.
func (c *swarmConn) Close() error {
	err := c.Conn.Close()
	if c.scope != nil && c.scope.PeerScope() != nil {
		c.scope.Done()
	}
	return err
}

// Stat passes on what the connection says of itself.
func (c *swarmConn) Stat() (s network.ConnStats) {
	if inner, ok := c.Conn.(network.ConnStat); ok {
		return inner.Stat()
	}
	return s
}

// key returns the connection's key. On the side that accepts it reads as many bytes as
// it takes to tell, under the deadline that its caller has set.
func (c *swarmConn) key() (pnet.PSK, error) {
	if c.dialled != nil {
		return c.dialled, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found != nil || c.err != nil {
		return c.found, c.err
	}
	first := make([]byte, nonceSize+len(opening))
	if _, err := io.ReadFull(c.Conn, first); err != nil {
		c.err = fmt.Errorf("beginning of a connection: %w", err)
		return nil, c.err
	}
	nonce, sealed := first[:nonceSize], first[nonceSize:]
	plain := make([]byte, len(sealed))
	for _, key := range c.keys() {
		stream := salsa20.New((*[32]byte)(key), nonce)
		stream.XORKeyStream(plain, sealed)
		if bytes.Equal(plain, []byte(opening)) {
			c.found, c.read, c.ahead = key, stream, plain
			return key, nil
		}
	}
	c.err = errUnknownKey
	_ = c.Conn.Close()
	return nil, c.err
}

// reader returns the stream for what is read.
func (c *swarmConn) reader() (cipher.Stream, error) {
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	if c.read == nil { // on the side that dialled; the other has it with the key
		nonce := make([]byte, nonceSize)
		if _, err := io.ReadFull(c.Conn, nonce); err != nil {
			return nil, fmt.Errorf("beginning of a connection: %w", err)
		}
		c.read = salsa20.New((*[32]byte)(key), nonce)
	}
	return c.read, nil
}

func (c *swarmConn) Read(p []byte) (int, error) {
	stream, err := c.reader()
	if err != nil {
		return 0, err
	}
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	stream.XORKeyStream(p[:n], p[:n])
	return n, err
}

func (c *swarmConn) Write(p []byte) (int, error) {
	if c.write == nil {
		key, err := c.key()
		if err != nil {
			return 0, err
		}
		nonce := make([]byte, nonceSize)
		_, _ = rand.Read(nonce) // never fails
		if _, err := c.Conn.Write(nonce); err != nil {
			return 0, err
		}
		c.write = salsa20.New((*[32]byte)(key), nonce)
	}
	out := pool.Get(len(p))
	defer pool.Put(out)
	c.write.XORKeyStream(out, p)
	return c.Conn.Write(out)
}

var _ net.Conn = (*swarmConn)(nil)
