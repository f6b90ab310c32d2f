package testcluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// mtu of the machines' interfaces. Jumbo frames: fewer packets to copy.
const mtu = 9000

// queueLen is how many packets wait on a slow link before the next is dropped,
// as in a router.
const queueLen = 2048

// A wire is the network between machines: a switch in user space. Each machine has
// a TUN interface whose packets the wire reads, and writes to the interface that
// has the destination address, by the rules of the Link between the two.
type wire struct {
	prefix netip.Prefix // a /24, of which the last byte names a port

	ports [256]atomic.Pointer[port]
	links [256][256]atomic.Pointer[shaper]

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// A port is one machine's interface.
type port struct{ tun *os.File }

func newWire() (*wire, error) {
	prefix, err := freePrefix()
	if err != nil {
		return nil, err
	}
	return &wire{prefix: prefix}, nil
}

func (w *wire) addr(last byte) netip.Addr {
	a := w.prefix.Addr().As4()
	a[3] = last
	return netip.AddrFrom4(a)
}

// plug makes a TUN interface in the network namespace of the calling thread, with
// the addresses of the last bytes, and connects it.
func (w *wire) plug(last ...byte) error {
	tun, name, err := openTUN()
	if err != nil {
		return err
	}
	addrs := make([]netip.Addr, len(last))
	for i, b := range last {
		addrs[i] = w.addr(b)
	}
	if err := configure(name, mtu, addrs...); err != nil {
		_ = tun.Close()
		return err
	}
	p := &port{tun: tun}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errors.Join(os.ErrClosed, tun.Close())
	}
	for _, b := range last {
		w.ports[b].Store(p)
	}
	w.wg.Go(func() { w.forward(p) })
	return nil
}

// forward carries what a machine sends.
func (w *wire) forward(from *port) {
	buf := make([]byte, 64<<10)
	net := w.prefix.Addr().As4()
	for {
		n, err := from.tun.Read(buf)
		if err != nil {
			return // unplugged
		}
		p := buf[:n]
		if n < 20 || p[0]>>4 != 4 || [3]byte(p[16:19]) != [3]byte(net[:3]) || [3]byte(p[12:15]) != [3]byte(net[:3]) {
			continue // IPv6 neighbours, multicast
		}
		src, dst := p[15], p[19]
		to := w.ports[dst].Load()
		if to == nil {
			continue
		}
		if s := w.links[src][dst].Load(); s != nil {
			s.send(to, p)
			continue
		}
		to.write(p)
	}
}

// write hands a packet to a machine. One that it has no room for is lost, as on a wire.
func (p *port) write(packet []byte) { _, _ = p.tun.Write(packet) }

// set changes the link from one address to another. The zero Link is a perfect one.
func (w *wire) set(src, dst byte, l Link) {
	var next *shaper
	if l != (Link{}) {
		next = &shaper{link: l}
		if l.Delay > 0 || l.Jitter > 0 || l.Rate > 0 {
			next.queue = make(chan delayed, queueLen)
			next.done = make(chan struct{})
			w.mu.Lock()
			if w.closed {
				w.mu.Unlock()
				return
			}
			w.wg.Go(next.run)
			w.mu.Unlock()
		}
	}
	if old := w.links[src][dst].Swap(next); old != nil {
		old.end()
	}
}

// Close unplugs all machines.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	closed := map[*port]bool{}
	var errs []error
	for i := range w.ports {
		if p := w.ports[i].Swap(nil); p != nil && !closed[p] {
			closed[p] = true
			errs = append(errs, p.tun.Close())
		}
	}
	for i := range w.links {
		for j := range w.links[i] {
			if s := w.links[i][j].Swap(nil); s != nil {
				s.end()
			}
		}
	}
	w.wg.Wait()
	return errors.Join(errs...)
}

// A shaper applies a Link to the packets of one direction.
type shaper struct {
	link  Link
	queue chan delayed // nil where nothing is delayed
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	free time.Time // when the line has sent what was given to it
	last time.Time // when the last packet arrives: the next does not overtake it
}

type delayed struct {
	to     *port
	packet []byte
	due    time.Time
}

func (s *shaper) end() {
	if s.done != nil {
		s.once.Do(func() { close(s.done) })
	}
}

func (s *shaper) send(to *port, packet []byte) {
	l := s.link
	if l.Cut || l.Loss > 0 && rand.Float64() < l.Loss {
		return
	}
	if s.queue == nil {
		to.write(packet)
		return
	}
	due := time.Now()
	s.mu.Lock()
	if l.Rate > 0 {
		if s.free.After(due) {
			due = s.free
		}
		due = due.Add(time.Duration(int64(len(packet)) * int64(time.Second) / l.Rate))
		s.free = due
	}
	due = due.Add(l.Delay)
	if l.Jitter > 0 {
		due = due.Add(time.Duration(rand.Int64N(int64(l.Jitter))))
	}
	if s.last.After(due) {
		due = s.last
	}
	s.last = due
	select {
	case s.queue <- delayed{to, append([]byte(nil), packet...), due}:
	default: // the queue is full
	}
	s.mu.Unlock()
}

// run delivers delayed packets. Those that wait when the link changes are lost.
func (s *shaper) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case d := <-s.queue:
			if wait := time.Until(d.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-s.done:
					return
				}
			}
			d.to.write(d.packet)
		case <-s.done:
			return
		}
	}
}

// openTUN makes a TUN interface in the network namespace of the calling thread. It
// goes when the file is closed.
func openTUN() (*os.File, string, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq("taubyte%d")
	if err != nil {
		return nil, "", err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		_ = unix.Close(fd)
		return nil, "", fmt.Errorf("making a TUN interface: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), ifr.Name(), nil
}

// configure gives an interface its addresses (each of a /24) and brings it up.
func configure(name string, mtu int, addrs ...netip.Addr) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	set := func(name string, request uint, fill func(*unix.Ifreq) error) error {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := fill(ifr); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, request, ifr); err != nil {
			return fmt.Errorf("configuring %s: %w", name, err)
		}
		return nil
	}
	for i, a := range addrs {
		alias := name
		if i > 0 {
			alias = fmt.Sprintf("%s:%d", name, i)
		}
		four := a.As4()
		if err := set(alias, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(four[:]) }); err != nil {
			return err
		}
		if err := set(alias, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }); err != nil {
			return err
		}
	}
	if mtu > 0 {
		if err := set(name, unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(uint32(mtu)); return nil }); err != nil {
			return err
		}
	}
	return set(name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
}
