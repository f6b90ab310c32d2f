package cloud

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/taubyte/taubyte"
)

// What a node's folder holds. Only the identity, the store and the git repositories
// matter; caches and work may be deleted while the node is down.
const (
	dirStore = "store" // the node's Datastore
	dirGit   = "git"   // bare repositories of the local git provider
	dirCache = "cache" // compiled WebAssembly
	dirWork  = "work"  // builds under way
	dirDev   = "dev"   // state of the folders that are deployed from this machine

	fileIdentity = "identity.key" // the private key of the node's peer ID
	fileToken    = "token"        // what callers of the API show
	fileInfo     = "node.json"    // where the running node is reached
)

// fileConfig is the configuration in the folder that is made for a node.
const fileConfig = "taubyte.yaml"

// claimDir makes the node's folder, or takes the one that is there. One that
// holds something else than a node is refused and left as it was.
func claimDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("data folder %s: %w", dir, err)
	case len(entries) > 0 && !isNodeDir(dir, entries):
		return fmt.Errorf("%w data folder: %s is not empty and holds no node (it has %q): choose another folder",
			taubyte.ErrInvalid, dir, entries[0].Name())
	}
	if err := os.MkdirAll(filepath.Join(dir, dirStore), 0o700); err != nil {
		return fmt.Errorf("data folder %s: %w", dir, err)
	}
	return nil
}

// isNodeDir reports whether there is an identity or a store, or, after a crash in
// the first moment of a node's life, the empty folder for one and nothing else.
func isNodeDir(dir string, entries []fs.DirEntry) bool {
	if _, err := os.Stat(filepath.Join(dir, fileIdentity)); err == nil {
		return true
	}
	inside, err := os.ReadDir(filepath.Join(dir, dirStore))
	if err != nil {
		return false
	}
	return len(inside) > 0 || len(entries) == 1
}

// identity returns the node's private key, made at the first start. It is a file of
// its own, so that a node whose store is lost comes back as itself. Where there is no
// file the store's is taken, which is where nodes kept it once.
func identity(ctx context.Context, dir string, store taubyte.Datastore) (crypto.PrivKey, error) {
	key, err := readIdentity(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = taubyte.Identity(ctx, store); err != nil {
		return nil, err
	}
	return key, writeIdentity(dir, key)
}

func readIdentity(dir string) (crypto.PrivKey, error) {
	path := filepath.Join(dir, fileIdentity)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the node's identity: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	var key crypto.PrivKey
	if err == nil {
		key, err = crypto.UnmarshalPrivateKey(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the node's identity %s is not readable (%w): restore the file from a backup, "+
			"or replace the node by a new one", taubyte.ErrInvalid, path, err)
	}
	return key, nil
}

func writeIdentity(dir string, key crypto.PrivKey) error {
	raw, err := crypto.MarshalPrivateKey(key)
	if err == nil {
		err = replaceFile(filepath.Join(dir, fileIdentity), []byte(base64.StdEncoding.EncodeToString(raw)+"\n"))
	}
	if err != nil {
		return fmt.Errorf("keeping the node's identity: %w", err)
	}
	return nil
}

// token returns the secret that callers of this node's API show, made at the
// first start.
func token(dir string) (string, error) {
	path := filepath.Join(dir, fileToken)
	text, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(text))) >= 32 {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the node's token: %w", err)
	}
	raw := make([]byte, 24)
	_, _ = rand.Read(raw) // never fails
	made := hex.EncodeToString(raw)
	if err := replaceFile(path, []byte(made+"\n")); err != nil {
		return "", fmt.Errorf("the node's token: %w", err)
	}
	return made, nil
}

// Info says where a running node is reached. It is kept in the node's folder
// while the node runs.
type Info struct {
	API  string `json:"api"`            // base URL of the node's API
	HTTP string `json:"http,omitempty"` // base URL of its gateway
	PID  int    `json:"pid"`
}

// ReadInfo returns where the node on that data folder is reached, and the token
// that its API wants. ErrNotFound means that no node runs there. After a crash
// the answer may be about a process that is gone.
func ReadInfo(dir string) (info Info, token string, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, fileInfo))
	if errors.Is(err, fs.ErrNotExist) {
		return info, "", fmt.Errorf("%w: no node runs on %s", taubyte.ErrNotFound, dir)
	}
	if err != nil {
		return info, "", err
	}
	if err := json.Unmarshal(raw, &info); err != nil {
		return info, "", fmt.Errorf("%w: %s: %w", taubyte.ErrInvalid, filepath.Join(dir, fileInfo), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, fileToken))
	if err != nil {
		return info, "", err
	}
	return info, strings.TrimSpace(string(text)), nil
}

func writeInfo(dir string, info Info) error {
	raw, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, fileInfo), append(raw, '\n')); err != nil {
		return fmt.Errorf("saying where the node is: %w", err)
	}
	return nil
}

// replaceFile writes a file whole or not at all, readable by its owner alone.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
