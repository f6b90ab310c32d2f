package cloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/taubyte/taubyte"
)

// openStore opens the store in a node's folder.
func openStore(dir string, log *slog.Logger) (taubyte.Datastore, error) {
	return taubyte.OpenDatastore(filepath.Join(dir, dirStore), taubyte.WithStoreLogger(log), taubyte.WithRemedy(fmt.Sprintf(
		"stop the node and run \"taubyte store reset --data %s\", which sets the store aside; at its next start the node fills an empty one from the other members", dir)))
}

// A Reset says what ResetStore did.
type Reset struct {
	Aside string // where the store is now
	// NewIdentity says that the node's identity was in the store alone and could
	// not be read from it: the node will be a new peer, which has to be made a
	// member, and the old one should be revoked.
	NewIdentity bool
}

// ResetStore sets the store of the node in a data folder aside, as
// store.damaged-<time> beside it. The next Open makes an empty one, which fills with
// what is replicated from the other members; identity, token and git repositories
// stay. The store may be one that can't be opened. ErrNotFound: there is no store.
// ErrConflict: a node runs on the folder.
func ResetStore(ctx context.Context, dir string) (Reset, error) {
	store := filepath.Join(dir, dirStore)
	if entries, err := os.ReadDir(store); errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return Reset{}, fmt.Errorf("%w: no store in the data folder %s", taubyte.ErrNotFound, dir)
	} else if err != nil {
		return Reset{}, err
	}
	_, err := readIdentity(dir)
	kept := !errors.Is(err, fs.ErrNotExist)
	opened, err := taubyte.OpenDatastore(store, taubyte.WithStoreLogger(slog.New(slog.DiscardHandler)))
	switch {
	case errors.Is(err, taubyte.ErrConflict):
		return Reset{}, err
	case err == nil:
		if !kept {
			_, err = identity(ctx, dir, opened)
			kept = err == nil
		}
		_ = opened.Close()
	}
	done := Reset{Aside: store + ".damaged-" + time.Now().UTC().Format("20060102T150405Z"), NewIdentity: !kept}
	if err := os.Rename(store, done.Aside); err != nil {
		return Reset{}, fmt.Errorf("setting the store aside: %w", err)
	}
	if !kept { // by which the folder is known for a node's, too
		if _, err := makeIdentity(dir); err != nil {
			return done, err
		}
	}
	return done, nil
}
