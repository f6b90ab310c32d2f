package messages

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

const (
	// pace is the time between two frames of a node that has much to tell, after a
	// burst of some without: what comes meanwhile goes into one. Gossip has queues of 32
	// for each peer, and drops what overflows.
	pace  = 500 * time.Microsecond
	burst = 12
	// beaconAfter silence a node says how far it is, so that the others notice that they
	// have missed its last frame.
	beaconAfter = 250 * time.Millisecond
	// admission bounds how long an unknown author is asked who it is.
	admission = 2 * time.Second
)

// gossip is the topic that nodes tell each other messages on.
type gossip struct {
	h     *Hub
	topic *pubsub.Topic
	sub   *pubsub.Subscription

	heard    chan heard    // frames, as they come in
	repaired chan repaired // answers of senders that were asked again
}

type heard struct {
	from  peer.ID
	frame *frame
}

func newGossip(h *Hub) (*gossip, error) {
	g := &gossip{h: h, heard: make(chan heard, 256), repaired: make(chan repaired, 16)}
	ps, name := h.Host.PubSub(), string(h.Protocol)
	if err := ps.RegisterTopicValidator(name, g.validate, pubsub.WithValidatorInline(true)); err != nil {
		return nil, fmt.Errorf("%w: are they open already on this host? %w", taubyte.ErrConflict, err)
	}
	var err error
	if g.topic, err = ps.Join(name); err != nil {
		return nil, errors.Join(err, ps.UnregisterTopicValidator(name))
	}
	if g.sub, err = g.topic.Subscribe(pubsub.WithBufferSize(1024)); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *gossip) close() error {
	if g.sub != nil {
		g.sub.Cancel()
	}
	err := g.topic.Close()
	if errors.Is(err, context.Canceled) {
		err = nil // gossip has ended before, with its host
	}
	_ = g.h.Host.PubSub().UnregisterTopicValidator(g.topic.String())
	return err
}

// validate passes on and takes frames of substrate nodes. The author's signature was
// checked before.
func (g *gossip) validate(ctx context.Context, _ peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	author, data := msg.GetFrom(), msg.GetData()
	if author == g.h.Host.ID() {
		return pubsub.ValidationAccept
	}
	if len(data) < frameHead || len(data) > maxFrame || data[0] != version {
		return pubsub.ValidationReject
	}
	ctx, cancel := context.WithTimeout(ctx, admission)
	defer cancel()
	m, err := g.h.Host.Member(ctx, author)
	switch {
	case errors.Is(err, taubyte.ErrForbidden):
		return pubsub.ValidationReject
	case err != nil:
		return pubsub.ValidationIgnore // not reached now; it is asked again for what was missed
	case !m.Has(taubyte.RoleSubstrate):
		g.h.Log.Warn("messages refused", "author", author, "roles", m.Roles)
		return pubsub.ValidationReject
	}
	return pubsub.ValidationAccept
}

// tell publishes what the outbox has.
func (g *gossip) tell() {
	ctx := g.h.life
	beacon := time.NewTimer(time.Hour)
	defer beacon.Stop()
	var paid time.Time // until when the frames so far would have taken, one after the other
	for {
		quiet := false
		select {
		case <-g.h.out.fresh:
		case <-beacon.C:
			quiet = true
		case <-ctx.Done():
			return
		}
		f := g.h.out.next(quiet)
		if f == nil {
			continue
		}
		if err := g.topic.Publish(ctx, f); err != nil && ctx.Err() == nil {
			g.h.Log.Warn("messages not told", "err", err)
		}
		if !quiet {
			beacon.Reset(beaconAfter)
		}
		now := time.Now()
		if paid.Before(now) {
			paid = now
		}
		paid = paid.Add(pace)
		select {
		case <-time.After(paid.Sub(now) - burst*pace): // at once where that is negative
		case <-ctx.Done():
			return
		}
	}
}

// listen takes frames off the topic.
func (g *gossip) listen() {
	for {
		msg, err := g.sub.Next(g.h.life)
		if err != nil {
			return
		}
		if msg.GetFrom() == g.h.Host.ID() {
			continue
		}
		f, err := decodeFrame(msg.GetData())
		if err != nil {
			g.h.Log.Warn("frame not read", "author", msg.GetFrom(), "err", err)
			continue
		}
		g.h.stats.frames.Add(1)
		select {
		case g.heard <- heard{msg.GetFrom(), f}:
		case <-g.h.life.Done():
			return
		}
	}
}

// repaired is a sender's answer.
type repaired struct {
	from   peer.ID
	epoch  uint64
	frames []*frame
}

// ask asks a sender for frames again.
func (g *gossip) ask(from peer.ID, epoch, first, last uint64) {
	answer := repaired{from: from, epoch: epoch}
	var err error
	if answer.frames, err = g.fetch(from, epoch, first, last); err != nil {
		g.h.Log.Debug("lost messages not got again", "node", from, "err", err)
	}
	select {
	case g.repaired <- answer:
	case <-g.h.life.Done():
	}
}

func (g *gossip) fetch(from peer.ID, epoch, first, last uint64) ([]*frame, error) {
	ctx, cancel := context.WithTimeout(g.h.life, repairPatience)
	defer cancel()
	resp, err := g.h.rpc.Open(ctx, from, http.MethodGet, fmt.Sprintf("/messages/frames?epoch=%d&from=%d&to=%d", epoch, first, last), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAgain+maxFrame))
	if err != nil {
		return nil, err
	}
	var frames []*frame
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return frames, fmt.Errorf("%w answer", taubyte.ErrInvalid)
		}
		f, err := decodeFrame(b[size : size+int(n)])
		if err != nil {
			return frames, err
		}
		if f.epoch == epoch && f.sequence >= first && f.sequence <= last {
			frames = append(frames, f)
		}
		b = b[size+int(n):]
	}
	return frames, nil
}
