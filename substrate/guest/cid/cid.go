// Package cid has the content identifiers by which the host names files and
// peers.
package cid

import (
	"encoding/base32"
	"errors"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest/errno"
)

// CID is an identifier in its binary form. The zero value is none. CIDs can be
// compared and used as keys.
type CID string

// ErrInvalid is what is no CID.
var ErrInvalid = errors.New("invalid CID")

// size is that of the buffers in which identifiers come and go.
const size = 64

// Read gets an identifier from the host, which writes it to the start of buf.
func Read(get func(buf *byte) errno.Errno) (CID, error) {
	var buf [size]byte
	if e := get(&buf[0]); e != 0 {
		return "", e
	}
	n := length(string(buf[:]))
	if n == 0 {
		return "", ErrInvalid
	}
	return CID(buf[:n]), nil
}

// Buffer is the form in which the host takes an identifier.
func (c CID) Buffer() (*[size]byte, error) {
	var buf [size]byte
	if len(c) > size || length(string(c)) != len(c) {
		return nil, ErrInvalid
	}
	copy(buf[:], c)
	return &buf, nil
}

// length is that of the identifier at the start of b, or 0.
func length(b string) int {
	if strings.HasPrefix(b, "\x12\x20") { // version 0: a SHA-256 alone
		if len(b) < 34 {
			return 0
		}
		return 34
	}
	at := 0
	next := func() uint64 {
		var v uint64
		for shift := 0; at < len(b) && shift < 63; shift += 7 {
			c := b[at]
			at++
			v |= uint64(c&0x7f) << shift
			if c < 0x80 {
				return v
			}
		}
		at = len(b) + 1
		return 0
	}
	version, _, _, digest := next(), next(), next(), next()
	if version != 1 || at > len(b) || digest > uint64(len(b)-at) {
		return 0
	}
	return at + int(digest)
}

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String is the usual text: "Qm…" for version 0, "b…" for version 1.
func (c CID) String() string {
	switch {
	case c == "":
		return ""
	case c[0] == 0x12:
		return base58(c)
	}
	return "b" + lower32.EncodeToString([]byte(c))
}

// Parse reads what String writes.
func Parse(text string) (CID, error) {
	var c CID
	switch {
	case len(text) == 46 && strings.HasPrefix(text, "Qm"):
		c = from58(text)
	case strings.HasPrefix(text, "b"):
		b, err := lower32.DecodeString(text[1:])
		if err != nil {
			return "", ErrInvalid
		}
		c = CID(b)
	}
	if c == "" || length(string(c)) != len(c) {
		return "", ErrInvalid
	}
	return c, nil
}

const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// base58 writes what does not start with a zero byte.
func base58(c CID) string {
	var digits []byte // the least first
	for i := range len(c) {
		carry := int(c[i])
		for j := range digits {
			carry += int(digits[j]) << 8
			digits[j] = byte(carry % 58)
			carry /= 58
		}
		for ; carry > 0; carry /= 58 {
			digits = append(digits, byte(carry%58))
		}
	}
	out := make([]byte, 0, len(digits))
	for i := len(digits) - 1; i >= 0; i-- {
		out = append(out, alphabet[digits[i]])
	}
	return string(out)
}

func from58(text string) CID {
	var bytes []byte // the least first
	for i := range len(text) {
		carry := strings.IndexByte(alphabet, text[i])
		if carry < 0 {
			return ""
		}
		for j := range bytes {
			carry += int(bytes[j]) * 58
			bytes[j] = byte(carry)
			carry >>= 8
		}
		for ; carry > 0; carry >>= 8 {
			bytes = append(bytes, byte(carry))
		}
	}
	out := make([]byte, 0, len(bytes))
	for i := len(bytes) - 1; i >= 0; i-- {
		out = append(out, bytes[i])
	}
	return CID(out)
}
