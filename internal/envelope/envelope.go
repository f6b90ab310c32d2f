// Package envelope seals secrets to X25519 keys with age, so that a replicated
// store can hold what its replicas' disks must not show.
package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// A Key opens what was sealed to it. Its Recipient is public.
type Key struct {
	identity *age.X25519Identity
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return &Key{id}, nil
}

// ParseKey reads what Key.Secret returned.
func ParseKey(secret string) (*Key, error) {
	id, err := age.ParseX25519Identity(secret)
	if err != nil {
		return nil, errors.New("the key is malformed") // without saying how: it is secret
	}
	return &Key{id}, nil
}

// Secret is the key as text.
func (k *Key) Secret() string { return k.identity.String() }

// Recipient is what others seal to.
func (k *Key) Recipient() string { return k.identity.Recipient().String() }

// Seal encrypts a secret so that each of the recipients can open it.
func Seal(secret []byte, recipients ...string) ([]byte, error) {
	var to []age.Recipient
	for _, r := range recipients {
		parsed, err := age.ParseX25519Recipient(r)
		if err != nil {
			return nil, fmt.Errorf("recipient %q: %w", r, err)
		}
		to = append(to, parsed)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if _, err := w.Write(secret); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return out.Bytes(), nil
}

// Open decrypts what was sealed to the key.
func (k *Key) Open(sealed []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), k.identity)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	secret, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	return secret, nil
}

// IsRecipient reports whether a text is what Key.Recipient returns.
func IsRecipient(text string) bool {
	_, err := age.ParseX25519Recipient(text)
	return err == nil
}
