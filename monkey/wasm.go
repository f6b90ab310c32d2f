package monkey

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/taubyte/taubyte"
)

// The parts of the WebAssembly binary format (core specification, chapter 5) that
// tell what a module exports.
const (
	wasmMagic     = "\x00asm"
	wasmVersion   = 1
	exportSection = 7
	maxExports    = 1 << 20
	maxNameLen    = 1 << 16
)

var errNotWasm = fmt.Errorf("%w module: it is not WebAssembly", taubyte.ErrInvalid)

// exportedFunctions returns the names of the functions that a module exports. It
// reads no further than it must, and takes nothing on trust but the bytes read.
func exportedFunctions(r io.Reader) (map[string]bool, error) {
	b := bufio.NewReader(r)
	var head [8]byte
	if _, err := io.ReadFull(b, head[:]); err != nil || string(head[:4]) != wasmMagic {
		return nil, errNotWasm
	}
	if v := binary.LittleEndian.Uint32(head[4:]); v != wasmVersion {
		return nil, fmt.Errorf("%w module: version %#x of WebAssembly, not a core module of version 1", taubyte.ErrInvalid, v)
	}
	for {
		id, err := b.ReadByte()
		if errors.Is(err, io.EOF) {
			return map[string]bool{}, nil
		}
		if err != nil {
			return nil, err
		}
		size, err := leb128(b)
		if err != nil {
			return nil, err
		}
		if id != exportSection {
			if n, err := io.CopyN(io.Discard, b, int64(size)); err != nil {
				return nil, fmt.Errorf("%w module: it ends after %d of the %d bytes of section %d", taubyte.ErrInvalid, n, size, id)
			}
			continue
		}
		return readExports(bufio.NewReader(io.LimitReader(b, int64(size))))
	}
}

func readExports(b *bufio.Reader) (map[string]bool, error) {
	n, err := leb128(b)
	if err != nil {
		return nil, err
	}
	if n > maxExports {
		return nil, fmt.Errorf("%w module: %d exports", taubyte.ErrInvalid, n)
	}
	names := map[string]bool{}
	for range n {
		length, err := leb128(b)
		if err != nil {
			return nil, err
		}
		if length > maxNameLen {
			return nil, fmt.Errorf("%w module: the name of an export has %d bytes", taubyte.ErrInvalid, length)
		}
		name := make([]byte, length)
		if _, err := io.ReadFull(b, name); err != nil {
			return nil, errTruncated
		}
		kind, err := b.ReadByte()
		if err != nil {
			return nil, errTruncated
		}
		if _, err := leb128(b); err != nil {
			return nil, err
		}
		if kind == 0 {
			names[string(name)] = true
		}
	}
	return names, nil
}

var errTruncated = fmt.Errorf("%w module: it ends in the middle", taubyte.ErrInvalid)

func leb128(b *bufio.Reader) (uint32, error) {
	v, err := binary.ReadUvarint(b)
	if err != nil {
		return 0, errTruncated
	}
	if v > math.MaxUint32 {
		return 0, fmt.Errorf("%w module: a number beyond 32 bits", taubyte.ErrInvalid)
	}
	return uint32(v), nil
}
