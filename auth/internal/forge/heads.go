package forge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/taubyte/taubyte"
)

// A Page is one page of a list of branches. Next is the number of the following page, 0
// after the last.
type Page struct {
	Branches map[taubyte.Branch]taubyte.Commit
	Full     bool // as many as were asked for
	Next     int
}

// A Lister reads the branches of one repository.
type Lister interface {
	// Page reads a page and says whether it is other than the last time.
	Page(ctx context.Context, number int) (page Page, changed bool, err error)
	// Branch reads one branch, ErrNotFound where it is not there.
	Branch(ctx context.Context, b taubyte.Branch) (taubyte.Commit, error)
}

// maxPages bounds a list. More than a million branches are no list of branches.
const maxPages = 10_000

// rounds is how often a list is read that changes while it is read.
const rounds = 4

// Heads remembers the branches of repositories. It is safe for concurrent use.
type Heads struct {
	mu   sync.Mutex
	last map[string]map[taubyte.Branch]taubyte.Commit // by repository
}

// List returns all branches of a repository. A list of several pages is read again until
// nothing in it changed, since a branch that goes meanwhile moves others from page to
// page. A branch that was there the last time and is not in the list is asked for by name
// before it is left out.
func (h *Heads) List(ctx context.Context, id string, from Lister) (map[taubyte.Branch]taubyte.Commit, error) {
	var heads map[taubyte.Branch]taubyte.Commit
	for round := 1; ; round++ {
		read, pages, changed, err := list(ctx, from)
		if errors.Is(err, taubyte.ErrNotFound) {
			h.mu.Lock()
			delete(h.last, id)
			h.mu.Unlock()
		}
		if err != nil {
			return nil, err
		}
		heads = read
		if pages == 1 || !changed {
			break
		}
		if round == rounds {
			return nil, fmt.Errorf("%w: the branches changed each time that they were read", taubyte.ErrUnavailable)
		}
	}
	h.mu.Lock()
	last := h.last[id]
	h.mu.Unlock()
	for b := range last {
		if _, there := heads[b]; there {
			continue
		}
		commit, err := from.Branch(ctx, b)
		if errors.Is(err, taubyte.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		heads[b] = commit
	}
	h.mu.Lock()
	if h.last == nil {
		h.last = map[string]map[taubyte.Branch]taubyte.Commit{}
	}
	h.last[id] = maps.Clone(heads)
	h.mu.Unlock()
	return heads, nil
}

func list(ctx context.Context, from Lister) (heads map[taubyte.Branch]taubyte.Commit, pages int, changed bool, err error) {
	heads = map[taubyte.Branch]taubyte.Commit{}
	for number := 1; number > 0; pages++ {
		if pages == maxPages {
			return nil, pages, false, fmt.Errorf("%w: the branches of a repository are over %d pages", taubyte.ErrUnavailable, maxPages)
		}
		page, other, err := from.Page(ctx, number)
		if err != nil {
			return nil, pages, false, err
		}
		changed = changed || other
		maps.Copy(heads, page.Branches)
		next := page.Next
		if next == 0 && page.Full {
			next = number + 1 // no answer says that it is the last
		}
		if next != 0 && next <= number {
			return nil, pages, false, fmt.Errorf("%w: page %d of the branches is followed by page %d", taubyte.ErrUnavailable, number, next)
		}
		number = next
	}
	return heads, pages, changed, nil
}
