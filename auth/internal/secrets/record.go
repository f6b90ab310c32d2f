package secrets

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	ds "github.com/ipfs/go-datastore"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/taubyte/taubyte"
)

// MaxValue is the largest value, in bytes, and MaxName the longest name.
const (
	MaxValue = 512 << 10
	MaxName  = 1024
)

const (
	recipientsPrefix  = "/recipients/"
	root              = "/secrets/"
	generationsPrefix = root + "generations/"
	wrapsPrefix       = root + "wraps/"
	valuesPrefix      = root + "values/"
	deletedPrefix     = root + "deleted/"
)

// CheckName returns ErrInvalid with the reason where a name is none: it is a path of
// parts that are not empty, without control characters.
func CheckName(name string) error {
	bad := func(why string) error {
		return fmt.Errorf("%w name of a secret %.100q: %s", taubyte.ErrInvalid, name, why)
	}
	switch {
	case len(name) > MaxName:
		return bad(fmt.Sprintf("longer than %d bytes", MaxName))
	case !utf8.ValidString(name):
		return bad("not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return bad("a control character")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			return bad("an empty part")
		}
	}
	return nil
}

// A valueKey is the key of a sealed value, taken apart.
type valueKey struct {
	name       string
	number     uint64
	id         string // of the version
	generation string
	by         string // who sealed it
}

func (k valueKey) key() ds.Key {
	return ds.RawKey(fmt.Sprintf("%s%s/%016d/%s/%s/%s", valuesPrefix, url.QueryEscape(k.name), k.number, k.id, k.generation, k.by))
}

func parseValueKey(key string) (k valueKey, err error) {
	rest, ok := strings.CutPrefix(key, valuesPrefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 5 {
		return k, fmt.Errorf("%w key %.200q", taubyte.ErrInvalid, key)
	}
	if k.name, k.number, err = parseNamed(parts[0], parts[1]); err != nil {
		return k, err
	}
	k.id, k.generation, k.by = parts[2], parts[3], parts[4]
	if k.key().String() != key {
		return k, fmt.Errorf("%w key %.200q: not as it is written", taubyte.ErrInvalid, key)
	}
	return k, nil
}

func parseNamed(name, number string) (string, uint64, error) {
	n, err := url.QueryUnescape(name)
	if err == nil {
		err = CheckName(n)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%w key: %w", taubyte.ErrInvalid, err)
	}
	i, err := strconv.ParseUint(number, 10, 64)
	if err != nil || i == 0 || i > maxNumber {
		return "", 0, fmt.Errorf("%w key: number %.40q", taubyte.ErrInvalid, number)
	}
	return n, i, nil
}

// maxNumber has 16 digits, so that the text of numbers sorts as they do.
const maxNumber = 9_999_999_999_999_999

func deletedKey(name string, number uint64, by string) ds.Key {
	return ds.RawKey(fmt.Sprintf("%s%s/%016d/%s", deletedPrefix, url.QueryEscape(name), number, by))
}

func parseDeletedKey(key string) (name string, number uint64, err error) {
	rest, ok := strings.CutPrefix(key, deletedPrefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return "", 0, fmt.Errorf("%w key %.200q", taubyte.ErrInvalid, key)
	}
	return parseNamed(parts[0], parts[1])
}

// A header is what a replica shows of a value: who may read it, and whence it is. It is
// sealed in with the value.
type header struct {
	Made    time.Time `json:"made"`
	By      string    `json:"by,omitempty"` // who set it
	Readers []Reader  `json:"readers,omitempty"`
}

// maxHeader bounds the header's line.
const maxHeader = 8 << 10

// sealValue gives what the store holds: the header as a line of JSON, a nonce, and the
// sealed value.
func sealValue(aead cipher.AEAD, k valueKey, h header, value []byte) ([]byte, error) {
	out, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(out) > maxHeader {
		return nil, fmt.Errorf("%w secret %s: its readers take %d bytes", taubyte.ErrTooLarge, k.name, len(out))
	}
	aad := additional(k, out)
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	out = append(append(out, '\n'), nonce...)
	return aead.Seal(out, nonce, value, aad), nil
}

// splitValue takes apart what sealValue made.
func splitValue(raw []byte) (line, sealed []byte, h header, err error) {
	line, sealed, ok := bytes.Cut(raw[:], []byte{'\n'})
	if !ok || len(line) > maxHeader || len(sealed) < chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead {
		return nil, nil, h, fmt.Errorf("%w sealed value", taubyte.ErrInvalid)
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, nil, h, fmt.Errorf("%w sealed value: %w", taubyte.ErrInvalid, err)
	}
	return line, sealed, h, nil
}

func openValue(aead cipher.AEAD, k valueKey, raw []byte) ([]byte, header, error) {
	line, sealed, h, err := splitValue(raw)
	if err != nil {
		return nil, h, err
	}
	n := aead.NonceSize()
	value, err := aead.Open(nil, sealed[:n], sealed[n:], additional(k, line))
	if err != nil {
		return nil, h, fmt.Errorf("%w: the secret %s does not open", taubyte.ErrDamaged, k.name)
	}
	return value, h, nil
}

// additional is what is sealed in with a value. Its fields can't run into each other:
// names have no control characters.
func additional(k valueKey, header []byte) []byte {
	return fmt.Appendf(nil, "taubyte secret 1\x00%s\x00%d\x00%s\x00%s\x00%s", k.name, k.number, k.id, k.generation, header)
}

// keySize is that of a generation's key.
const keySize = chacha20poly1305.KeySize

// generationID is a digest of a generation's key, so that nobody can pass another key
// off as its.
func generationID(key []byte) string {
	sum := sha256.Sum256(append([]byte("taubyte generation 1\x00"), key...))
	return hex.EncodeToString(sum[:16])
}

// better orders versions: that one secret has two of a number is resolved alike on every
// node.
func (v *version) compare(o *version) int {
	return cmp.Or(cmp.Compare(v.number, o.number), v.head.Made.Compare(o.head.Made), cmp.Compare(v.id, o.id))
}

func sortedReaders(readers []Reader) []Reader {
	readers = slices.Clone(readers)
	slices.Sort(readers)
	return slices.Compact(readers)
}
