package taubyte

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/crypto"
)

// Identity returns the private key that a host on this store has unless
// [WithIdentity] gives it another, and makes it if there is none yet: a node's peer
// ID can be known, and made a member, before the node first starts.
func Identity(ctx context.Context, store Datastore) (crypto.PrivKey, error) {
	key := ds.NewKey("/host/identity")
	raw, err := store.Get(ctx, key)
	if err == nil {
		return crypto.UnmarshalPrivateKey(raw)
	}
	if !errors.Is(err, ds.ErrNotFound) {
		return nil, fmt.Errorf("reading the node's identity: %w", err)
	}
	sk, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the node's identity: %w", err)
	}
	if raw, err = crypto.MarshalPrivateKey(sk); err != nil {
		return nil, err
	}
	if err := store.Put(ctx, key, raw); err != nil {
		return nil, fmt.Errorf("keeping the node's identity: %w", err)
	}
	return sk, nil
}

// StoreID returns the store's own name: random text that is made with the store and
// lost with it. A node that comes back under its old identity on an empty disk has
// another one, which tells that it has nothing of what it once had. NewHost makes
// it; before that, one caller at a time may.
func StoreID(ctx context.Context, store Datastore) (string, error) {
	key := ds.NewKey("/store/id")
	raw, err := store.Get(ctx, key)
	if err == nil {
		return string(raw), nil
	}
	if !errors.Is(err, ds.ErrNotFound) {
		return "", fmt.Errorf("reading the store's ID: %w", err)
	}
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	id := hex.EncodeToString(random)
	if err := store.Put(ctx, key, []byte(id)); err != nil {
		return "", fmt.Errorf("keeping the store's ID: %w", err)
	}
	return id, nil
}
