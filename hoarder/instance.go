package hoarder

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Errors of databases and storages.
var (
	// ErrFull: what was to be added does not fit into the store's size.
	ErrFull = fmt.Errorf("the store is full: %w", taubyte.ErrTooLarge)
	// ErrExists: there is a file of that name, and it was not to be replaced.
	ErrExists = fmt.Errorf("exists already: %w", taubyte.ErrConflict)

	// errElsewhere: this node does not host the store (any more).
	errElsewhere = fmt.Errorf("%w: the store is not hosted here", taubyte.ErrUnavailable)
	// errBehind: others may have acknowledged what this node does not have.
	errBehind = fmt.Errorf("%w: the replica may miss writes", taubyte.ErrUnavailable)
)

var codes = rpc.Codes{{Name: "doubt", Err: errDoubt}, {Name: "full", Err: ErrFull}, {Name: "exists", Err: ErrExists}, {Name: "elsewhere", Err: errElsewhere}, {Name: "behind", Err: errBehind}}

// Limits of what a store holds.
const (
	MaxKey   = 1 << 10   // bytes of a database's key, or of a file's name
	MaxValue = 512 << 10 // bytes of a database's value

	DefaultDatabaseSize = 64 << 20
	DefaultStorageSize  = 1 << 30

	maxVersions = 1 << 20 // of all files of a storage
)

// Replicas of a store that says nothing of them.
const (
	defaultMin = 2
	defaultMax = 3
)

// Instance names a store: what differs in any field is another store, unreachable
// from this one. Nodes of role substrate reach those that they are granted (Grants).
type Instance struct {
	Project     taubyte.ProjectID     `json:"project"`
	Branch      taubyte.Branch        `json:"branch"`
	Application taubyte.ApplicationID `json:"application,omitempty"`
	Name        string                `json:"name"`
}

func (i Instance) check() error {
	if !validProject(i.Project) {
		return fmt.Errorf("%w project %q", taubyte.ErrInvalid, i.Project)
	}
	for what, text := range map[string]string{"branch": string(i.Branch), "name": i.Name} {
		if text == "" || len(text) > MaxKey || !utf8.ValidString(text) {
			return fmt.Errorf("%w %s %.100q of a store", taubyte.ErrInvalid, what, text)
		}
	}
	if len(i.Application) > 128 || !utf8.ValidString(string(i.Application)) {
		return fmt.Errorf("%w application %.100q", taubyte.ErrInvalid, i.Application)
	}
	return nil
}

type kind string

const (
	kindDatabase kind = "database"
	kindStorage  kind = "storage"
	kindContent  kind = "content" // no store: see Grants
)

// id identifies a store in the registry: a hash over parts that carry their lengths,
// so that no two instances make the same text.
func (i Instance) id(k kind) string {
	h := sha256.New()
	for _, part := range []string{"taubyte store 1", string(k), string(i.Project), string(i.Branch), string(i.Application), i.Name} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:idLen/2])
}

const idLen = 40

// A ref is one life of a store: dropped and made again, it is another.
type ref struct {
	ID  string
	Gen uint64
}

func (r ref) String() string { return fmt.Sprintf("%s-%d", r.ID, r.Gen) }

// spec is what DatabaseSpec and StorageSpec say, as the registry has it.
type spec struct {
	Min        int           `json:"min"`
	Max        int           `json:"max"`
	Size       int64         `json:"size"`
	Versioning bool          `json:"versioning,omitempty"`
	TTL        time.Duration `json:"ttl,omitempty"`
}

func (s spec) withDefaults(size int64) (spec, error) {
	if s.Min < 0 || s.Max < 0 || s.Max > 0 && s.Max < s.Min || s.Min > maxReplicas || s.Max > maxReplicas {
		return s, fmt.Errorf("%w replicas: from %d to %d", taubyte.ErrInvalid, s.Min, s.Max)
	}
	if s.Size < 0 {
		return s, fmt.Errorf("%w size: %d bytes", taubyte.ErrInvalid, s.Size)
	}
	if s.TTL < 0 {
		return s, fmt.Errorf("%w time to live: %s", taubyte.ErrInvalid, s.TTL)
	}
	if s.Min == 0 {
		s.Min = defaultMin
		if s.Max > 0 {
			s.Min = min(s.Min, s.Max)
		}
	}
	if s.Max == 0 {
		s.Max = max(defaultMax, s.Min)
	}
	if s.Size == 0 {
		s.Size = size
	}
	return s, nil
}

// checkKey checks a key of a database, or the name of a file.
func checkKey(what, key string) error {
	if key == "" || len(key) > MaxKey || !utf8.ValidString(key) {
		return fmt.Errorf("%w %s %.100q: it takes UTF-8 of 1 to %d bytes", taubyte.ErrInvalid, what, key, MaxKey)
	}
	return nil
}
