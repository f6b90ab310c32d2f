package tns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// A publication is confirmed when another member of the registry has it on its disk
// as well, if one is in reach: first the deployment, so that nobody hears of one that
// is nowhere to be had, and then the key that makes it current.

const (
	// copying bounds how long a publication waits for another member. After that it
	// counts all the same, and the log says so.
	copying = 3 * time.Second
	// copiers is how many members are asked.
	copiers = 3
)

// A copyRequest asks a member to keep a deployment, or to wait until it has an entry
// of the history.
type copyRequest struct {
	Object []byte   `json:"object,omitempty"`
	Blocks [][]byte `json:"blocks,omitempty"` // of the object, which then is a root
	Entry  string   `json:"entry,omitempty"`
}

// copied has another member do something, and returns when the first one has. With no
// other member it returns at once.
func (s *Service) copied(ctx context.Context, what string, request copyRequest) {
	peers := s.store.Peers()
	if len(peers) == 0 {
		return
	}
	peers = peers[:min(len(peers), copiers)]
	first, cancel := context.WithTimeout(ctx, copying)
	defer cancel()
	done := make(chan error, len(peers))
	s.ending.RLock()
	if s.life.Err() != nil {
		s.ending.RUnlock()
		return
	}
	for _, p := range peers {
		s.wg.Go(func() { done <- s.copyTo(p, request) })
	}
	s.ending.RUnlock()
	var errs []error
	for range peers {
		select {
		case err := <-done:
			if err == nil {
				return
			}
			errs = append(errs, err)
			continue
		case <-first.Done():
			errs = append(errs, first.Err())
		}
		break
	}
	if ctx.Err() == nil {
		s.opts.log.Warn("published on this node alone so far", "what", what, "err", errors.Join(errs...))
	}
}

// copyTo does it with one member, as long as the service runs: that others are quicker
// is no reason to leave this one without.
func (s *Service) copyTo(p peer.ID, request copyRequest) error {
	ctx, cancel := context.WithTimeout(s.life, copying)
	defer cancel()
	return s.members.CallPeer(ctx, p, http.MethodPost, "/copies", request, nil)
}

// keepCopy is the other side.
func (s *Service) keepCopy(r *http.Request, request copyRequest) error {
	if len(request.Object) > 0 {
		keep := s.keepObject
		if len(request.Blocks) > 0 {
			keep = func(ctx context.Context, root []byte) error { return s.keepRoot(ctx, root, request.Blocks) }
		}
		if err := keep(r.Context(), request.Object); err != nil {
			return err
		}
	}
	if request.Entry != "" {
		return s.awaitEntry(r.Context(), request.Entry)
	}
	return nil
}

// checkObject returns ErrInvalid for JSON that is no deployment.
func checkObject(raw []byte) error {
	d, err := unmarshal[Deployment](raw)
	if err != nil {
		return fmt.Errorf("%w deployment: %w", taubyte.ErrInvalid, err)
	}
	if d.Project == "" || d.Branch == "" || d.Sequence == 0 {
		return fmt.Errorf("%w deployment: it names no project, branch or sequence", taubyte.ErrInvalid)
	}
	return nil
}

func (s *Service) keepObject(ctx context.Context, raw []byte) error {
	if err := checkObject(raw); err != nil {
		return err
	}
	// As it came: a member of a later version may have written what this one does not know.
	block, err := blockOf(raw)
	if err != nil {
		return err
	}
	return s.blocks.AddBlock(ctx, block)
}

// keepRoot is keepObject of one in several blocks.
func (s *Service) keepRoot(ctx context.Context, raw []byte, pieces [][]byte) error {
	head, err := rootOf(raw)
	if err != nil {
		return err
	}
	handed := map[cid.Cid][]byte{head.Cid(): raw}
	var all []blocks.Block
	for _, piece := range pieces {
		b, err := blockOf(piece)
		if err != nil {
			return err
		}
		all = append(all, b)
		handed[b.Cid()] = piece
	}
	whole, err := join(ctx, head.Cid(), func(_ context.Context, c cid.Cid) ([]byte, error) {
		if b, ok := handed[c]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("%w deployment: block %s is not among those that came", taubyte.ErrInvalid, c)
	})
	if err != nil {
		return err
	}
	if err := checkObject(whole); err != nil {
		return err
	}
	return s.blocks.AddBlocks(ctx, append(all, head))
}

// awaitEntry returns when an entry is on this node. Gossip brings it, mostly before
// anybody asks.
func (s *Service) awaitEntry(ctx context.Context, key string) error {
	if _, err := parseEntry(key); err != nil {
		return err
	}
	return s.store.Await(ctx, ds.RawKey(key))
}

// publishAs puts a deployment on disk, here and elsewhere, and makes it current.
func (s *Service) publishAs(ctx context.Context, e entry, o *stored, h head) error {
	if err := s.blocks.AddBlocks(ctx, o.all()); err != nil {
		return fmt.Errorf("keeping the deployment: %w", err)
	}
	request := copyRequest{Object: o.head.RawData()}
	for _, b := range o.blocks {
		request.Blocks = append(request.Blocks, b.RawData())
	}
	s.copied(ctx, "the deployment", request)
	if err := s.record(ctx, e); err != nil {
		return fmt.Errorf("publishing %s %s: %w", e.project, e.branch, err)
	}
	// Whoever published reads it from now on. Where another deployment came in the
	// meantime, the two are merged.
	if !s.feed.swap(e.Follows, h) {
		s.update(ctx, e.branchKey, s.fetch)
	}
	s.copied(ctx, "that it is current", copyRequest{Entry: e.key().String()})
	return nil
}
