package localgit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

// settle decides on a push whose objects are here, writes what it changes, and tells
// who hears of pushes.
func (s *Server) settle(ctx context.Context, p push) (outcome, error) {
	select {
	case <-s.joined:
	default:
		return outcome{}, fmt.Errorf("%w: this node is starting", taubyte.ErrUnavailable)
	}
	for _, u := range p.Updates {
		if err := checkRef(u.Ref); err != nil {
			return outcome{}, err
		}
		if !isHash(u.Old) || !isHash(u.New) {
			return outcome{}, fmt.Errorf("%w update of %s", taubyte.ErrInvalid, u.Ref)
		}
	}
	r := s.repository(p.Name)
	r.deciding.Lock()
	defer r.deciding.Unlock()
	if err := s.compare(ctx); err != nil {
		return outcome{}, err
	}
	if err := s.remember(ctx, p.Name); err != nil {
		return outcome{}, err
	}
	if err := s.onDiskNow(ctx, p.Name); err != nil {
		return outcome{}, err
	}
	p, refused, err := s.admit(ctx, p)
	if err != nil {
		return outcome{}, err
	}
	out, made, err := s.decide(ctx, p)
	if err != nil {
		return out, err
	}
	out.Refused = merge(refused, out.Refused)
	if err := s.onDiskNow(ctx, p.Name); err != nil {
		return out, err
	}
	out.Said = append(s.tell(ctx, p.Name, made), s.conflicts(p.Name, made)...)
	return out, nil
}

// admit asks for each branch of a push whether it may be changed so, and returns what is
// left of the push, and a reason for each update that is not.
func (s *Server) admit(ctx context.Context, p push) (left push, refused []string, err error) {
	left = push{Name: p.Name, Atomic: p.Atomic}
	refused = make([]string, len(p.Updates))
	any := false
	for i, u := range p.Updates {
		if branch, ok := strings.CutPrefix(u.Ref, headsPrefix); ok {
			change := auth.Push{Repository: auth.NewRepositoryID(s.Name(), p.Name), Branch: taubyte.Branch(branch)}
			if !isZero(u.New) {
				change.Commit = taubyte.Commit(u.New)
			}
			err := s.access.Push(ctx, p.Name, change)
			if err != nil && (errors.Is(err, taubyte.ErrUnavailable) || ctx.Err() != nil) {
				return left, nil, err
			}
			if err != nil {
				s.log.Info("git push refused", "name", p.Name, "branch", branch, "by", taubyte.PrincipalOf(ctx), "err", err)
				refused[i], any = oneLine(err), true
			}
		}
	}
	for i, u := range p.Updates {
		switch {
		case refused[i] != "":
		case any && p.Atomic:
			refused[i] = reasonAtomic
		default:
			left.Updates = append(left.Updates, u)
		}
	}
	return left, refused, nil
}

// oneLine is an error as a reason in git's report.
func oneLine(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return text[:min(len(text), longestSaid)]
}

// merge puts the reasons for what was decided on into the places that have none.
func merge(refused, decided []string) []string {
	next := 0
	for i, r := range refused {
		if r == "" && next < len(decided) {
			refused[i] = decided[next]
			next++
		}
	}
	return refused
}

// remember makes a repository known to all nodes.
func (s *Server) remember(ctx context.Context, name string) error {
	there, err := s.exists(ctx, name)
	if err != nil || there {
		return err
	}
	return s.store.Put(ctx, repositoryKey(name), []byte("{}"))
}

// commit has a push decided, with its objects and its changes on the disk of another
// node as well, where there is one.
func (s *Server) commit(ctx context.Context, p push) (out outcome, err error) {
	if err := s.compare(ctx); err != nil {
		return out, err
	}
	self := s.host.ID()
	passed := map[peer.ID]bool{}
	for {
		able := slices.DeleteFunc(s.living(), func(p peer.ID) bool { return passed[p] })
		arbiter := rendezvous.Best(p.Name, append(able, self))
		if arbiter == self {
			break
		}
		out, err = ask[outcome](ctx, s, arbiter, "/pushes", p)
		if err == nil {
			if err = s.pull(ctx, arbiter, pullFor); err == nil {
				return out, s.onDiskNow(ctx, p.Name)
			}
		}
		if errors.Is(err, taubyte.ErrInvalid) || ctx.Err() != nil {
			return out, err
		}
		passed[arbiter] = true
		s.doubt(arbiter, err)
	}
	partner := s.second(ctx, "/objects", wanted{p.Name, p.tips()})
	if out, err = s.settle(ctx, p); err != nil {
		return out, err
	}
	if !slices.Contains(out.Refused, "") {
		return out, nil
	}
	if partner != "" {
		if _, err := ask[struct{}](ctx, s, partner, "/written", wanted{Name: p.Name}); err != nil {
			s.doubt(partner, err)
			partner = s.second(ctx, "/written", wanted{Name: p.Name}) // which fetches the objects
		}
	}
	if partner != "" {
		return out, nil
	}
	others, err := s.others(ctx)
	if err != nil {
		return out, err
	}
	if len(others) > 0 {
		s.log.Warn("git: a push is on this node only", "repository", p.Name)
		out.Said = append(out.Said, onOneNode)
	}
	return out, nil
}

// onOneNode is what a pusher is told when no other node has the push.
const onOneNode = "no other control node answers: this push is on one node only, until another is back"

// second has a living node do something, and returns the first that did.
func (s *Server) second(ctx context.Context, path string, in wanted) peer.ID {
	for _, p := range rendezvous.Rank(in.Name, s.living()) {
		_, err := ask[struct{}](ctx, s, p, path, in)
		if err == nil {
			return p
		}
		if ctx.Err() != nil {
			break
		}
		s.doubt(p, err)
	}
	return ""
}

// fresh waits until this node knows the references of a repository as the living nodes
// do. A repository that none knows is ErrNotFound.
func (s *Server) fresh(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	select {
	case <-s.joined:
	case <-s.life.Done():
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: this node is starting: %w", taubyte.ErrUnavailable, ctx.Err())
	}
	if err := s.compare(ctx); err != nil {
		return err
	}
	there, err := s.exists(ctx, name)
	if err == nil && !there {
		err = fmt.Errorf("%w: git repository %s", taubyte.ErrNotFound, name)
	}
	return err
}

// current waits until a repository is here as the living nodes know it.
func (s *Server) current(ctx context.Context, name string) error {
	if err := s.fresh(ctx, name); err != nil {
		return err
	}
	return s.onDiskNow(ctx, name)
}
