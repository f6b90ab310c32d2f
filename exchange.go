package taubyte

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// membershipProtocol is how two peers show each other their memberships and hand
// over what they know of revoked ones. Who opens a stream sends, and then receives,
// frames: a shown as JSON, then signed revocations, then the end of that direction.
// A frame is its length as an unsigned varint and so many bytes.
//
// The answer to a peer that shows no good membership is a reset.
const membershipProtocol protocol.ID = "/taubyte/membership/2"

const (
	maxMembershipSize = 16 << 10 // of the first frame
	// maxNews is how many revocations a question may bring. The answer brings all
	// where the digests differ.
	maxNews = 64
)

// shown is the first frame of either side.
type shown struct {
	Membership []byte `json:"membership"` // the sender's; in an answer to Who, that peer's or none
	Digest     []byte `json:"digest"`     // of the revocations that the sender knows
	// Version and Sum say which description of the network the sender has. The answer
	// to an older one brings Network, signed, and to a member of role auth Authority.
	Version   uint64 `json:"version,omitempty"`
	Sum       []byte `json:"sum,omitempty"`
	Network   []byte `json:"network,omitempty"`
	Authority []byte `json:"authority,omitempty"`
	// Who asks for the membership of another peer, from memory.
	Who peer.ID `json:"who,omitempty"`
	// Back marks a question that came of a question, which ends there.
	Back bool `json:"back,omitempty"`
}

// meet exchanges memberships with a peer, and what of revocations one of both does
// not know. ErrForbidden: it is no member.
func (g *Members) meet(ctx context.Context, p peer.ID, news ...[]byte) error {
	return g.question(ctx, p, shown{}, news)
}

func (g *Members) question(ctx context.Context, p peer.ID, q shown, news [][]byte) error {
	if g.revoked.has(p) {
		return fmt.Errorf("%w: the membership of %s is revoked", ErrForbidden, p)
	}
	q.Membership, q.Digest = g.Signed(), g.revoked.sum()
	q.Version, q.Sum = g.networkVersion()
	if len(news) > maxNews {
		news = news[:maxNews] // the digest says that there is more
	}
	s, err := g.host.NewStream(ctx, p, membershipProtocol)
	if err != nil {
		return fmt.Errorf("asking %s for its membership: %w", p, err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	err = send(s, q, news)
	if err == nil {
		_ = s.CloseWrite()
		err = g.hearAnswer(ctx, p, q, bufio.NewReader(s))
	}
	if err != nil {
		_ = s.Reset()
		return fmt.Errorf("asking %s for its membership: %w", p, err)
	}
	return nil
}

func (g *Members) hearAnswer(ctx context.Context, p peer.ID, q shown, r *bufio.Reader) error {
	a, err := readShown(r)
	if err != nil {
		return err
	}
	if q.Who != "" {
		if len(a.Membership) == 0 {
			return fmt.Errorf("%w: %s does not know %s", ErrNotFound, p, q.Who)
		}
		_, err := g.learn(q.Who, a.Membership)
		return err
	}
	// First, since the membership may be of a root that it introduces.
	if len(a.Network) > 0 {
		var next *Authority
		if len(a.Authority) > 0 {
			next = new(Authority)
			if err := next.UnmarshalText(a.Authority); err != nil {
				return err
			}
		}
		if _, err := g.adopt(g.ctx, a.Network, next); err != nil {
			return err
		}
	}
	if _, err := g.learn(p, a.Membership); err != nil {
		return err
	}
	g.versions.Store(p, a.Version)
	return g.hearRevocations(ctx, p, r, maxRevocations)
}

// hearRevocations takes in what follows the first frame.
func (g *Members) hearRevocations(ctx context.Context, from peer.ID, r *bufio.Reader, most int) error {
	var all [][]byte
	others := 0
	for {
		signed, err := readFrame(r, maxRevocationSize)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && len(all) == most {
			err = fmt.Errorf("%w: more than %d revocations at once", ErrTooLarge, most)
		}
		if err == nil && !g.revoked.knows(signed) {
			// Checked one by one, so that a liar is found out by the first.
			_, err = g.network.Load().VerifyRevocation(signed, time.Now())
			if errors.Is(err, errEnded) {
				continue
			}
			if errors.Is(err, errOtherRoot) && others < maxNews { // one that is retired, perhaps
				others++
				continue
			}
			all = append(all, signed)
		}
		if err != nil {
			return err
		}
	}
	return g.revoke(ctx, from, all...)
}

// answer answers a peer that opened a stream.
func (g *Members) answer(s network.Stream) {
	defer s.Close()
	p := s.Conn().RemotePeer()
	_ = s.SetDeadline(time.Now().Add(admissionTime))
	if err := g.reply(p, s); err != nil {
		_ = s.Reset()
		if errors.Is(err, ErrForbidden) {
			g.log.Debug("membership not accepted", "peer", p, "err", err)
		}
	}
}

func (g *Members) reply(p peer.ID, s network.Stream) error {
	r := bufio.NewReader(s)
	q, err := readShown(r)
	if err != nil {
		return err
	}
	version, sum := g.networkVersion()
	ahead := g.network.Load().before(q.Version, q.Sum)
	askBack := func() {
		g.spawn(func() {
			ctx, cancel := context.WithTimeout(g.ctx, admissionTime)
			defer cancel()
			_ = g.question(ctx, p, shown{Back: true}, nil)
		})
	}
	if _, err := g.learn(p, q.Membership); err != nil {
		if ahead && !q.Back { // of a root that this node does not know yet, perhaps
			askBack()
		}
		return err
	}
	g.versions.Store(p, q.Version)
	if q.Who != "" {
		var a shown
		if m := g.current(q.Who, time.Now()); m != nil {
			a.Membership = m.signed
		}
		return send(s, a, nil)
	}
	if err := g.hearRevocations(g.ctx, p, r, maxNews); err != nil {
		return err
	}
	all, digest := g.revoked.list()
	a := shown{Membership: g.Signed(), Digest: digest, Version: version, Sum: sum}
	if err := g.handOver(p, q, &a); err != nil {
		return err
	}
	same := bytes.Equal(digest, q.Digest)
	if same {
		all = nil
	}
	if err := send(s, a, all); err != nil {
		return err
	}
	if (!same || ahead) && !q.Back { // it knows something that this node does not
		askBack()
	}
	return nil
}

// networkVersion names the description of the network that this node has.
func (g *Members) networkVersion() (uint64, []byte) {
	n := g.network.Load()
	return n.Version, n.sum()
}

// handOver puts what p, a member, does not know of the network's keys into an answer.
func (g *Members) handOver(p peer.ID, q shown, a *shown) error {
	n, signed := g.network.Load(), g.signedNetwork.Load()
	later := n.Version > q.Version || n.Version == q.Version && bytes.Compare(n.sum(), q.Sum) > 0
	if signed == nil || !later {
		return nil
	}
	a.Network = *signed
	m := g.current(p, time.Now())
	if m == nil || !m.Has(RoleAuth) || g.authority == nil || !g.authority.owns(*n) {
		return nil
	}
	var err error
	a.Authority, err = g.authority.MarshalText()
	return err
}

func send(w io.Writer, first shown, rest [][]byte) error {
	head, err := json.Marshal(first)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	for _, frame := range append([][]byte{head}, rest...) {
		_, _ = b.Write(binary.AppendUvarint(nil, uint64(len(frame))))
		_, _ = b.Write(frame)
	}
	return b.Flush() // the first error of all
}

func readShown(r *bufio.Reader) (q shown, err error) {
	b, err := readFrame(r, maxMembershipSize)
	if err != nil {
		return q, err
	}
	if err := json.Unmarshal(b, &q); err != nil {
		return q, fmt.Errorf("%w: what it shows is no membership: %w", ErrForbidden, err)
	}
	return q, nil
}

// readFrame returns io.EOF where nothing follows.
func readFrame(r *bufio.Reader, most uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, fmt.Errorf("%w: a frame of %d bytes", ErrForbidden, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return b, nil
}
