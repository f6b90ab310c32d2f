package crdt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	stdhash "hash"
	"io"

	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
)

// A backup is this line; then each entry, as 'r' and two byte strings, key and
// value, each with its length before it; then 'e', the number of entries and the
// SHA-256 of everything before the 'e', without which it is not whole.
const backupMagic = "taubyte crdt backup 1\n"

// Backup writes what the store holds, one consistent view as Query's, while it
// goes on being used. What is sealed in the store is sealed in the backup.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	res, err := s.Query(ctx, query.Query{})
	if err != nil {
		return err
	}
	defer res.Close()
	sum := sha256.New()
	out := bufio.NewWriter(w)
	emit := func(b []byte) error {
		sum.Write(b)
		_, err := out.Write(b)
		return err
	}
	if err := emit([]byte(backupMagic)); err != nil {
		return fmt.Errorf("backup of the store %s: %w", s.name, err)
	}
	var n uint64
	for r := range res.Next() {
		err := r.Error
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = emit(appendBytes(appendBytes([]byte{'r'}, []byte(r.Key)), r.Value))
		}
		if err != nil {
			return fmt.Errorf("backup of the store %s: %w", s.name, err)
		}
		n++
	}
	end := append(binary.AppendUvarint([]byte{'e'}, n), sum.Sum(nil)...)
	if _, err := out.Write(end); err != nil {
		return fmt.Errorf("backup of the store %s: %w", s.name, err)
	}
	return out.Flush()
}

// Restore makes the store, on all replicas, hold what a backup holds: as
// ordinary writes and deletions of what differs. A backup that is not whole is
// ErrInvalid and changes nothing. It is held in memory, up to 1 GiB. What
// others write meanwhile stays beside it.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	entries, err := readBackup(r)
	if err != nil {
		return fmt.Errorf("restoring the store %s: %w", s.name, err)
	}
	b := &batch{s: s}
	res, err := s.Query(ctx, query.Query{})
	if err != nil {
		return err
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return fmt.Errorf("restoring the store %s: %w", s.name, r.Error)
		}
		if v, ok := entries[r.Key]; !ok {
			b.add(write{key: r.Key, remove: true})
		} else if bytes.Equal(v, r.Value) {
			delete(entries, r.Key)
		}
	}
	for k, v := range entries {
		b.add(write{key: k, value: v})
	}
	return b.Commit(ctx)
}

func readBackup(r io.Reader) (map[string][]byte, error) {
	bad := func(what string, err error) error {
		return fmt.Errorf("%w backup: %s: %w", taubyte.ErrInvalid, what, err)
	}
	in := &summing{r: bufio.NewReader(r), sum: sha256.New()}
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != backupMagic {
		return nil, bad("beginning", errMalformed)
	}
	entries, size := map[string][]byte{}, 0
	for {
		sum := in.sum.Sum(nil)
		kind, err := in.ReadByte()
		if err != nil {
			return nil, bad("it ends too early", err)
		}
		if kind == 'e' {
			n, err := binary.ReadUvarint(in)
			if err != nil || n != uint64(len(entries)) {
				return nil, bad("number of entries", errMalformed)
			}
			got := make([]byte, len(sum))
			if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, sum) {
				return nil, bad("checksum", errMalformed)
			}
			return entries, nil
		}
		key, err := readBytes(in, maxKey)
		if kind != 'r' || err != nil || checkKey(string(key)) != nil {
			return nil, bad("entry", errMalformed)
		}
		value, err := readBytes(in, maxValue)
		if err != nil {
			return nil, bad("value", err)
		}
		if size += len(key) + len(value) + 64; size > maxSnapshot {
			return nil, bad("size", taubyte.ErrTooLarge)
		}
		entries[string(key)] = value
	}
}

// summing sums what is read through it.
type summing struct {
	r   *bufio.Reader
	sum stdhash.Hash
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	return n, err
}

func (s *summing) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.sum.Write([]byte{b})
	}
	return b, err
}
