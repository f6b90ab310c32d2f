package crdt

import (
	"bufio"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"github.com/taubyte/taubyte"
)

// A pull is one stream. Who asks sends what it wants and the vector of what it
// has. The answer is a row of frames, each a kind, a length and that many bytes: either the blocks
// that it misses, in causal order, or, when some of them are no longer in the
// answerer's log, the answerer's state. Then the end, without which it was none.
const (
	askMissing = 1 // what it misses
	askState   = 2 // the state in any case

	frameBlock  = 'b' // a block
	frameMeta   = 'm' // of a snapshot: its meta
	frameWriter = 'w' // of a snapshot: a dot, the writer's last
	frameRecord = 'r' // of a snapshot: key, record
	frameEnd    = 'e'
)

const (
	maxFrame    = 64 << 20 // a record holds a few versions
	maxRequest  = 16 << 20
	maxSnapshot = 1 << 30 // held in memory until it is complete
	maxServing  = 8       // pulls answered at a time
	maxPulls    = 8       // under way at a time
	inPull      = 256 << 10
)

const (
	// stall is how long a member may send nothing of what it was asked for, or take
	// nothing of what it asked for, before it counts as hung.
	stall = 5 * time.Second
	// headStart is what one pull has before that from another member begins: most are
	// over by then, and what several send is sent for nothing.
	headStart = 300 * time.Millisecond
	// beforePull lets a message that is under way arrive.
	beforePull = 20 * time.Millisecond
	retryPull  = 250 * time.Millisecond
	// maxNone is how often a member that left is asked again.
	maxNone = 20
	// waitForHung is how long Synced waits for a member that sends nothing when
	// another has answered.
	waitForHung = 2 * time.Second
)

// errNone says that a member does not have the store open.
var errNone = errors.New("it does not have the store open")

// errHung says that a member is connected and does not go on.
var errHung = errors.New("it makes no progress")

// puller pulls from members that have something new: from several at a time, so that
// one that hangs holds up none of the others.
type puller struct {
	s      *Store
	mu     sync.Mutex
	wanted map[peer.ID]bool
	under  map[peer.ID]bool // being pulled from
	hung   map[peer.ID]int  // times in a row that it did
	none   map[peer.ID]int  // times in a row that it did not have the store open
	broken bool             // there are records that can't be read
	more   chan struct{}
	slots  chan struct{}
}

func newPuller(s *Store) *puller {
	return &puller{
		s: s, wanted: map[peer.ID]bool{}, under: map[peer.ID]bool{}, hung: map[peer.ID]int{}, none: map[peer.ID]int{},
		more: make(chan struct{}, 1), slots: make(chan struct{}, maxPulls),
	}
}

func (p *puller) want(from peer.ID) {
	p.mu.Lock()
	p.wanted[from] = true
	p.mu.Unlock()
	p.wake()
}

func (p *puller) wake() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// repair pulls the state of some member that has all that is here. It reports
// whether that was not under way already.
func (p *puller) repair() bool {
	p.mu.Lock()
	before := p.broken
	p.broken = true
	p.mu.Unlock()
	if before {
		return false
	}
	p.s.spawn(func() {
		for _, from := range p.s.talk.candidates() {
			p.want(from)
		}
	})
	return true
}

func (p *puller) isBroken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

func (p *puller) repaired() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = false
}

func (p *puller) run() {
	ctx := p.s.life
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.more:
		}
		if !pause(ctx, beforePull) {
			return
		}
		for {
			from, ok := p.next()
			if !ok {
				break
			}
			select {
			case p.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			over := make(chan struct{})
			p.s.spawn(func() {
				defer close(over)
				p.pull(ctx, from)
				<-p.slots
			})
			t := time.NewTimer(headStart)
			select {
			case <-over:
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}
}

// next takes a member to pull from; one that is being pulled from waits.
func (p *puller) next() (peer.ID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for from := range p.wanted {
		if !p.under[from] {
			delete(p.wanted, from)
			p.under[from] = true
			return from, true
		}
	}
	return "", false
}

func (p *puller) pull(ctx context.Context, from peer.ID) {
	err := p.s.pull(ctx, from, &progress{})
	p.mu.Lock()
	delete(p.under, from)
	again := p.wanted[from]
	count(p.hung, from, errors.Is(err, errHung))
	times := count(p.none, from, errors.Is(err, errNone))
	wait := min(retryPull<<p.hung[from], stall)
	p.mu.Unlock()
	if again {
		p.wake()
	}
	if err == nil || ctx.Err() != nil || !p.s.connected(from) {
		return
	}
	// One that left the topic may open the store again at once, and events of a topic
	// that cancel each other out are not told.
	if errors.Is(err, errNone) && p.s.talk.hasNone(from) && (times > maxNone || !p.s.talk.wasHere(from)) {
		return
	}
	if errors.Is(err, taubyte.ErrForbidden) || errors.Is(err, taubyte.ErrInvalid) {
		p.s.log.Warn("changes refused", "peer", from, "err", err)
		return
	}
	p.s.log.Debug("changes not pulled", "peer", from, "err", err)
	p.s.spawn(func() {
		if pause(ctx, wait) {
			p.want(from)
		}
	})
}

// count counts how often in a row something happened with a member.
func count(times map[peer.ID]int, p peer.ID, happened bool) int {
	if !happened {
		delete(times, p)
		return 0
	}
	times[p]++
	return times[p]
}

// progress tells since when a pull waits for the other member.
type progress struct {
	since atomic.Int64 // nanoseconds; 0: it does not wait
}

func (p *progress) wait() { p.since.Store(time.Now().UnixNano()) }
func (p *progress) work() { p.since.Store(0) }

func (p *progress) waits(longerThan time.Duration) bool {
	since := p.since.Load()
	return since != 0 && time.Now().UnixNano()-since > int64(longerThan)
}

// reading is a stream that notes when it waits, and is reset when nothing comes.
type reading struct {
	network.Stream
	progress *progress
	watch    *time.Timer
}

func (r reading) Read(b []byte) (int, error) {
	r.watch.Reset(stall)
	r.progress.wait()
	n, err := r.Stream.Read(b)
	r.progress.work()
	r.watch.Stop()
	return n, err
}

// pull gets from a member all that it has now and this replica has not.
func (s *Store) pull(ctx context.Context, from peer.ID, progress *progress) error {
	progress.wait()
	open, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	hung := func(err error) error {
		if open.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("%w: %w", errHung, err)
		}
		return err
	}
	if err := s.isWriter(open, from); err != nil {
		return hung(err)
	}
	stream, err := s.host.NewStream(network.WithNoDial(open, "pull"), from, s.protocol())
	if errors.Is(err, multistream.ErrNotSupported[protocol.ID]{}) {
		return fmt.Errorf("asking %s: %w", from, errNone)
	}
	if err != nil {
		return fmt.Errorf("asking %s: %w", from, hung(err))
	}
	done := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer done()
	stop := context.AfterFunc(s.life, func() { _ = stream.Reset() })
	defer stop()
	var stalled atomic.Bool
	watch := time.AfterFunc(stall, func() {
		stalled.Store(true)
		_ = stream.Reset()
	})
	defer watch.Stop()
	if err := s.receiveAll(ctx, from, reading{stream, progress, watch}); err != nil {
		_ = stream.Reset()
		if stalled.Load() {
			err = fmt.Errorf("%w: %w", errHung, err)
		}
		return fmt.Errorf("changes of %s: %w", from, errors.Join(ctx.Err(), err))
	}
	return stream.Close()
}

func (s *Store) receiveAll(ctx context.Context, from peer.ID, stream reading) error {
	repair := s.puller.isBroken()
	ask := []byte{askMissing}
	if repair {
		ask[0] = askState
	}
	if _, err := stream.Write(appendBytes(nil, appendVector(ask, s.st.vector()))); err != nil {
		return err
	}
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	r := bufio.NewReaderSize(stream, 64<<10)
	var blocks []arrived
	var size int
	var snap *snapshot
	for {
		kind, err := r.ReadByte()
		if err != nil {
			return err
		}
		payload, err := readBytes(r, maxFrame)
		if err != nil {
			return err
		}
		switch kind {
		case frameBlock:
			b, err := parseBlock(payload)
			if err != nil {
				return err
			}
			blocks = append(blocks, arrived{b, from})
			size += len(payload)
		case frameMeta, frameWriter, frameRecord:
			if snap == nil {
				snap = newSnapshot()
			}
			if err := snap.read(kind, payload); err != nil {
				return fmt.Errorf("%w snapshot: %w", taubyte.ErrInvalid, err)
			}
		case frameEnd:
		default:
			return fmt.Errorf("%w: frame %q", taubyte.ErrInvalid, kind)
		}
		if kind == frameEnd || size > inPull || len(blocks) >= maxGroup {
			if len(blocks) > 0 {
				if err := s.do(ctx, &op{blocks: blocks}); err != nil {
					return err
				}
			}
			blocks, size = nil, 0
		}
		if kind != frameEnd {
			continue
		}
		if snap == nil && repair {
			return fmt.Errorf("%w: its state is empty", taubyte.ErrUnavailable)
		}
		if snap == nil {
			return nil
		}
		if err := snap.check(); err != nil {
			return fmt.Errorf("%w snapshot: %w", taubyte.ErrInvalid, err)
		}
		err = s.do(ctx, &op{run: func(ctx context.Context, w *writer) error {
			// Another pull may have done it meanwhile.
			return w.mergeSnapshot(ctx, snap, repair && s.puller.isBroken())
		}})
		if err == nil && repair {
			s.puller.repaired()
		}
		return err
	}
}

// byteReader is what readBytes reads from.
type byteReader interface {
	io.Reader
	io.ByteReader
}

func readBytes(r byteReader, most uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, fmt.Errorf("%w: %d bytes", taubyte.ErrTooLarge, n)
	}
	// Grown as it comes: a false length allocates nothing.
	if n <= 64<<10 {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && uint64(len(b)) < n {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// serve answers pulls until stop is called.
func (s *Store) serve() (stop func()) {
	slots := make(chan struct{}, maxServing)
	return s.serveStreams(func(stream network.Stream) {
		answered := make(chan struct{})
		if !s.spawn(func() {
			defer close(answered)
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-s.life.Done():
				_ = stream.Reset()
				return
			}
			stop := context.AfterFunc(s.life, func() { _ = stream.Reset() })
			defer stop()
			if err := s.answer(s.life, stream); err != nil {
				s.log.Debug("pull not answered", "peer", stream.Conn().RemotePeer(), "err", err)
				_ = stream.Reset()
				return
			}
			_ = stream.Close()
		}) {
			_ = stream.Reset()
			return
		}
		<-answered
	})
}

func (s *Store) answer(ctx context.Context, stream network.Stream) error {
	p := stream.Conn().RemotePeer()
	if err := s.isWriter(ctx, p); err != nil {
		return err
	}
	_ = stream.SetDeadline(time.Now().Add(stall))
	raw, err := readBytes(bufio.NewReader(stream), maxRequest)
	if err != nil {
		return err
	}
	d := decoder{b: raw}
	ask := d.take(1)[0]
	theirs := d.vector()
	if err := d.end(); err != nil {
		return err
	}
	s.talk.has(p, theirs)
	if s.st.isLost() {
		return errLost
	}
	out := &framer{stream: stream, w: bufio.NewWriterSize(stream, 64<<10)}
	seen, floor := s.st.vectors()
	served := ask != askState && theirs.covers(floor)
	if served {
		// Lower ones first: a block stands above all that it builds upon.
		err = s.st.walk(ctx, theirs, seen, func(b *block) (bool, error) {
			return true, out.frame(frameBlock, b.raw)
		})
	}
	if errors.Is(err, errLog) { // dropped meanwhile, or damaged
		s.log.Warn("history not readable", "err", err)
		served, err = false, nil
	}
	if !served && err == nil {
		err = s.st.view(ctx, out.frame)
		if errors.Is(err, errDamaged) {
			s.puller.repair()
		}
	}
	if err != nil {
		return err
	}
	if err := out.frame(frameEnd, nil); err != nil {
		return err
	}
	return out.w.Flush()
}

type framer struct {
	stream network.Stream
	w      *bufio.Writer
}

func (f *framer) frame(kind byte, payload []byte) error {
	_ = f.stream.SetWriteDeadline(time.Now().Add(stall))
	var head [1 + binary.MaxVarintLen64]byte
	head[0] = kind
	if _, err := f.w.Write(binary.AppendUvarint(head[:1], uint64(len(payload)))); err != nil {
		return err
	}
	_, err := f.w.Write(payload)
	return err
}

// walk calls f with the blocks between two vectors, in causal order, until it
// returns false.
func (st *state) walk(ctx context.Context, from, to vector, f func(*block) (bool, error)) error {
	var next lowest
	for w, last := range to {
		if seq := from[w] + 1; seq <= last {
			b, err := st.fromLog(ctx, dot{w, seq})
			if err != nil {
				return err
			}
			next = append(next, b)
		}
	}
	heap.Init(&next)
	for len(next) > 0 {
		b := next[0]
		if more, err := f(b); err != nil || !more {
			return err
		}
		if b.dot.seq == to[b.dot.writer] {
			heap.Pop(&next)
			continue
		}
		after, err := st.fromLog(ctx, dot{b.dot.writer, b.dot.seq + 1})
		if err != nil {
			return err
		}
		next[0] = after
		heap.Fix(&next, 0)
	}
	return nil
}

// lowest is a heap of blocks, one of each writer.
type lowest []*block

func (l lowest) Len() int           { return len(l) }
func (l lowest) Less(i, j int) bool { return l[i].delta.Priority < l[j].delta.Priority }
func (l lowest) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *lowest) Push(b any)        { *l = append(*l, b.(*block)) }
func (l *lowest) Pop() any {
	old := *l
	b := old[len(old)-1]
	*l = old[:len(old)-1]
	return b
}
