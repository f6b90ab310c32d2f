package auth

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
)

// A CertificateFile names the files of a certificate, both PEM: its chain, the leaf first,
// and its key. They may be one.
type CertificateFile struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

const (
	// fileEvery is how often files are looked at: two calls of stat for each certificate.
	fileEvery = time.Second
	// maxCertificateFile bounds what is read of one.
	maxCertificateFile = 1 << 20
)

// CertificateFiles are certificates of files, for a Keyring. One that is replaced, by writing, by
// renaming or by another target of a link, is told within seconds; while what is there
// can't be used, the log says so and the certificate of before stays. It is safe for
// concurrent use, and has nothing to close: a watch ends with its context.
type CertificateFiles struct {
	log *slog.Logger

	mu    sync.Mutex
	files []*certificateFile
}

type certificateFile struct {
	CertificateFile
	seen    fileStamps // of the last attempt
	version uint64     // counts what was read well
	have    Certificate
}

// fileStamps tell whether files were replaced. A file that is not there has nil.
type fileStamps struct{ cert, key os.FileInfo }

// NewCertificateFiles reads certificates. ErrInvalid, with the path: a file is not there or
// can't be used.
func NewCertificateFiles(log *slog.Logger, files ...CertificateFile) (*CertificateFiles, error) {
	f := &CertificateFiles{log: log}
	for _, file := range files {
		c := &certificateFile{CertificateFile: file}
		if err := c.read(); err != nil {
			return nil, err
		}
		f.files = append(f.files, c)
	}
	return f, nil
}

// WatchCertificates tells of the certificates, and of those that are replaced, until ctx
// ends. See FollowCertificates.
func (f *CertificateFiles) WatchCertificates(ctx context.Context) (<-chan CertificateChange, error) {
	out := make(chan CertificateChange)
	go func() {
		defer close(out)
		every := time.NewTicker(fileEvery)
		defer every.Stop()
		told := make([]uint64, len(f.files))
		for first := true; ; first = false {
			if c := f.look(told); first || len(c.Set) > 0 {
				select {
				case out <- c:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-every.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// look reads what was replaced, and returns what is other than what was told.
func (f *CertificateFiles) look(told []uint64) (c CertificateChange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, file := range f.files {
		if file.replaced() {
			if err := file.read(); err != nil {
				f.log.Error("certificate not replaced: the one of before serves on", "err", err)
			} else {
				f.log.Info("certificate replaced", "file", file.Cert, "hosts", file.have.Hosts)
			}
		}
		if told[i] != file.version {
			told[i] = file.version
			c.Set = append(c.Set, file.have)
		}
	}
	return c
}

func (c *certificateFile) stamps() (s fileStamps) {
	s.cert, _ = os.Stat(c.Cert) // nil: reading it says why
	s.key, _ = os.Stat(c.Key)
	return s
}

func (c *certificateFile) replaced() bool {
	now := c.stamps()
	return !sameFile(c.seen.cert, now.cert) || !sameFile(c.seen.key, now.key)
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// read reads the files. The stamps are taken before, so that a change meanwhile is seen.
func (c *certificateFile) read() error {
	c.seen = c.stamps()
	cert, err := readBounded(c.Cert)
	key, err2 := readBounded(c.Key)
	if err = cmp.Or(err, err2); err != nil {
		return fmt.Errorf("%w certificate file: %w", taubyte.ErrInvalid, err)
	}
	leaf, err := parsePair(string(cert), string(key))
	if err != nil {
		return fmt.Errorf("%s with key %s: %w", c.Cert, c.Key, err)
	}
	hosts := hostsOf(leaf)
	if len(hosts) == 0 {
		return fmt.Errorf("%w certificate file %s: it names no host", taubyte.ErrInvalid, c.Cert)
	}
	c.version++
	c.have = Certificate{ID: "file:" + c.Cert, Hosts: hosts, Cert: string(cert), Key: string(key)}
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCertificateFile+1))
	if err == nil && len(raw) > maxCertificateFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxCertificateFile)
	}
	return raw, err
}
