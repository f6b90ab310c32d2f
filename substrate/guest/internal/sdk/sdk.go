// Package sdk declares the functions of the host module "taubyte/sdk". Outside
// of a guest each returns errno.Outside.
//
// Pointers are to memory that the host reads or writes during the call; it keeps
// none of them.
package sdk

import (
	"io"
	"strings"
	"unsafe"

	"github.com/taubyte/taubyte/substrate/guest/errno"
)

// Fetch gives what the host hands out in two steps: its size, then its bytes.
func Fetch(size func(*uint32) errno.Errno, bytes func(buf *byte, size uint32) errno.Errno) ([]byte, error) {
	said := number()
	if e := size(said); e != 0 {
		return nil, e
	}
	n := *said
	if n == 0 {
		return nil, nil
	}
	buf := make([]byte, n)
	if e := bytes(&buf[0], n); e != 0 {
		return nil, e
	}
	return buf, nil
}

// Text is Fetch for text.
func Text(size func(*uint32) errno.Errno, bytes func(buf *byte, size uint32) errno.Errno) (string, error) {
	b, err := Fetch(size, bytes)
	return unsafe.String(unsafe.SliceData(b), len(b)), err
}

// Strings is Fetch for a list of strings, each of which ends with a NUL.
func Strings(size func(*uint32) errno.Errno, bytes func(buf *byte, size uint32) errno.Errno) ([]string, error) {
	text, err := Text(size, bytes)
	if err != nil || text == "" {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(text, "\x00"), "\x00"), nil
}

// Each is Fetch for texts in which any character may stand: before each is its length, in
// four bytes. What can't be had is nothing.
func Each(size func(*uint32) errno.Errno, bytes func(buf *byte, size uint32) errno.Errno) []string {
	text, err := Text(size, bytes)
	if err != nil {
		return nil
	}
	var list []string
	for len(text) >= 4 {
		n := int(text[0]) | int(text[1])<<8 | int(text[2])<<16 | int(text[3])<<24
		if text = text[4:]; n < 0 || n > len(text) {
			return nil
		}
		list = append(list, text[:n])
		text = text[n:]
	}
	return list
}

// Join is the form in which the host takes a list of strings.
func Join(list []string) []byte {
	var b []byte
	for _, s := range list {
		b = append(append(b, s...), 0)
	}
	return b
}

// Data is where the bytes are, and their number, as the host takes them.
func Data(b []byte) (*byte, uint32) { return unsafe.SliceData(b), uint32(len(b)) }

// Stream reads into p from what the host hands out piece by piece. The last
// piece may come with the end.
func Stream(p []byte, read func(buf *byte, size uint32, n *uint32) errno.Errno) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	said := number()
	e := read(&p[0], uint32(len(p)), said)
	n := *said
	if int(n) > len(p) {
		return 0, errno.BufferTooSmall
	}
	switch e {
	case errno.None:
		return int(n), nil
	case errno.EOF:
		return int(n), io.EOF
	}
	return int(n), e
}

// Send writes p by write, which tells how much of it was taken.
func Send(p []byte, write func(buf *byte, size uint32, n *uint32) errno.Errno) (int, error) {
	data, size := Data(p)
	said := number()
	e := write(data, size, said)
	n := *said
	if e != 0 {
		return int(min(n, size)), e
	}
	if n < size {
		return int(n), io.ErrShortWrite
	}
	return len(p), nil
}
