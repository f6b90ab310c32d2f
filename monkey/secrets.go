package monkey

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/mask"
	"github.com/taubyte/taubyte/patrick"
)

// given are the variables and secrets that a workflow asks for.
type given struct {
	env  []string   // "NAME=value"
	mask *mask.Mask // of the secrets
	key  []string   // which versions these are, for the cache: no values
}

// given asks for what a workflow names, of variables and secrets of the project.
func (b *build) given(ctx context.Context, t target, w *workflow) (given, error) {
	var g given
	if w == nil || len(w.asks) == 0 {
		return g, nil
	}
	jobs, ok := b.s.o.jobs.(interface {
		Environment(context.Context, patrick.Lease, patrick.EnvironmentRequest) ([]environment.Variable, error)
	})
	if !ok {
		return g, fmt.Errorf("%w: the workflow asks for secrets, and there is nobody to ask", taubyte.ErrInvalid)
	}
	in := patrick.EnvironmentRequest{Names: w.asks}
	if t.kind == "function" || t.kind == "smartop" {
		in.Function = t.name
	}
	var all []environment.Variable
	err := persist(ctx, b.s.o.serviceTimeout, func(ctx context.Context) (err error) {
		all, err = jobs.Environment(ctx, b.held.now(), in)
		if isLost(err) {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		return ofService(err)
	})
	if errors.Is(err, taubyte.ErrInvalid) {
		return g, err
	}
	if err != nil {
		return g, fmt.Errorf("asking for the workflow's secrets: %w", err)
	}
	// What is built with one project's secrets is no other's.
	g.key = []string{"environment", string(b.job.Project)}
	var hide []string
	for _, v := range all {
		g.env = append(g.env, v.Name+"="+string(v.Value))
		g.key = append(g.key, string(v.Kind), string(v.Branch), v.Function, v.Name, strconv.FormatUint(v.Version, 10), v.Since.UTC().String())
		if v.Kind == environment.Secret {
			hide = append(hide, string(v.Value))
		}
	}
	g.mask = mask.New(hide...)
	return g, nil
}

// A maskedError is an error whose text may have named a secret: a file that a script has
// called so, for one.
type maskedError struct {
	error
	text string
}

func (e maskedError) Error() string { return e.text }
func (e maskedError) Unwrap() error { return e.error }

// hidden is an error without the secrets in its text.
func hidden(err error, hide *mask.Mask) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	// The mask takes the beginning of a secret at the end of a line for one that goes on.
	if shown := strings.TrimSuffix(string(hide.Apply([]byte(text+"\n"))), "\n"); shown != text {
		return maskedError{err, shown}
	}
	return err
}
