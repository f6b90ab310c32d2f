package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/claim"
)

// account is the network's account at an authority, as auth keeps it. Only the arbiter
// of the leases writes it: the key before it is registered, so that who takes the
// arbiter's place registers the same one.
type account struct {
	Directory string `json:"directory"`
	Key       []byte `json:"key"` // PKCS #8
	URL       string `json:"url,omitempty"`
	Contact   string `json:"contact,omitempty"` // as registered
}

// accountAnswer says which account is registered.
type accountAnswer struct {
	URL string `json:"url"`
}

const (
	// registerTime bounds registering the account, and changing its contact.
	registerTime = time.Minute
	// arbiterTime is how long the arbiter may take to register the account before a node
	// that has its key does it itself.
	arbiterTime = 8 * time.Second
	// contactEvery is how often it is looked whether the account's contact is the one
	// that was configured.
	contactEvery = time.Hour
)

// accountID is what an account is kept by: that of one authority, bound to one external
// account.
func (s *Service) accountID() string {
	sum := sha256.Sum256([]byte(s.opts.directory + "\x00" + s.opts.eabID))
	return fmt.Sprintf("%x", sum[:8])
}

func (s *Service) accountName() string { return "acme/accounts/" + s.accountID() }

// ownAccountKey is where earlier versions kept an account of the node's own, in clear.
func (s *Service) ownAccountKey() ds.Key { return ds.NewKey("/acme/accounts/" + s.accountID()) }

// account reads the network's account. ErrNotFound: there is none.
func (s *Service) account(ctx context.Context) (a account, err error) {
	raw, err := s.opts.certs.OwnSecret(ctx, s.accountName())
	if err == nil {
		err = decodeAccount(raw, &a)
	}
	if err != nil {
		return account{}, fmt.Errorf("the account at the certificate authority: %w", err)
	}
	return a, nil
}

func decodeAccount(raw []byte, a *account) error {
	if json.Unmarshal(raw, a) != nil {
		return fmt.Errorf("%w: it can't be read", taubyte.ErrDamaged) // without saying how: it is secret
	}
	return nil
}

func (s *Service) keepAccount(ctx context.Context, a account) error {
	raw, err := json.Marshal(a)
	if err == nil {
		err = s.opts.certs.KeepOwnSecret(ctx, s.accountName(), raw)
	}
	if err != nil {
		return fmt.Errorf("keeping the account at the certificate authority: %w", err)
	}
	return nil
}

// signer is the account's key.
func (a account) signer() (crypto.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, errors.New("the account's key is malformed") // without saying how: it is secret
	}
	return key, nil
}

// authority returns a client with the network's account, which is registered at the first
// order.
func (s *Service) authority(ctx context.Context) (*api.Core, error) {
	a, err := s.account(ctx)
	if own := s.accountURL.Load(); err == nil && a.URL == "" && own != nil {
		a.URL = *own
	}
	if errors.Is(err, taubyte.ErrNotFound) || err == nil && a.URL == "" {
		a, err = s.registered(ctx)
	}
	if err != nil {
		return nil, err
	}
	key, err := a.signer()
	if err != nil {
		return nil, err
	}
	return s.client(ctx, key, a.URL)
}

// registered has the arbiter register the account, and returns it once it is here. An
// arbiter that doesn't reach the authority holds nobody up: the account's key is kept
// before it is registered, and registering a key again names the account that it has
// (RFC 8555, section 7.3.1), so that a node which has the key does it itself.
func (s *Service) registered(ctx context.Context) (account, error) {
	arbiter := claim.Arbiter(arbiterKey, s.live())
	if arbiter == s.host.ID() {
		return s.ensureAccount(ctx)
	}
	a, err := s.registeredBy(ctx, arbiter)
	if err == nil || ctx.Err() != nil {
		return a, err
	}
	a, without := s.account(ctx)
	if without != nil {
		return account{}, err // which says why there is none
	}
	s.opts.log.Info("registering without the arbiter", "arbiter", arbiter, "err", err)
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	if err := s.register(ctx, &a); err != nil {
		return account{}, err
	}
	s.accountURL.Store(&a.URL)
	return a, nil
}

// registeredBy has another node register the account, and waits until it is here.
func (s *Service) registeredBy(ctx context.Context, arbiter peer.ID) (account, error) {
	ctx, cancel := context.WithTimeout(ctx, arbiterTime)
	defer cancel()
	var there accountAnswer
	if err := s.rpc.CallPeer(ctx, arbiter, http.MethodPost, "/account", nil, &there); err != nil {
		return account{}, fmt.Errorf("registering at the certificate authority: %w", err)
	}
	return await(ctx, func() (account, bool, error) {
		a, err := s.account(ctx)
		if errors.Is(err, taubyte.ErrNotFound) || errors.Is(err, taubyte.ErrUnavailable) {
			return a, false, nil // on its way here
		}
		return a, a.URL == there.URL, err
	})
}

// register registers the account's key, or changes the contact of a registered one to the
// one that was configured.
func (s *Service) register(ctx context.Context, a *account) error {
	key, err := a.signer()
	if err != nil {
		return err
	}
	core, err := s.client(ctx, key, a.URL)
	if err != nil {
		return err
	}
	said := legoacme.Account{}
	if s.opts.email != "" {
		said.Contact = []string{"mailto:" + s.opts.email}
	}
	if a.URL != "" {
		if _, err := core.Accounts.Update(a.URL, said); err != nil {
			return fmt.Errorf("changing the contact at the certificate authority: %w", err)
		}
		a.Contact = s.opts.email
		s.opts.log.Info("contact changed at the certificate authority", "directory", s.opts.directory)
		return nil
	}
	said.TermsOfServiceAgreed = true
	var out legoacme.ExtendedAccount
	if s.opts.eabID != "" {
		out, err = core.Accounts.NewEAB(said, s.opts.eabID, s.opts.eabKey)
	} else {
		out, err = core.Accounts.New(said)
	}
	if err != nil {
		return fmt.Errorf("registering at the certificate authority: %w", err)
	}
	s.opts.log.Info("registered at the certificate authority", "directory", s.opts.directory)
	a.URL, a.Contact = out.Location, s.opts.email
	return nil
}

// ensureAccount makes and registers the account, as the arbiter, where that was not done,
// and has its contact be the one that was configured.
func (s *Service) ensureAccount(ctx context.Context) (a account, err error) {
	s.accounts.Lock()
	defer s.accounts.Unlock()
	if arbiter := claim.Arbiter(arbiterKey, s.live()); arbiter != s.host.ID() {
		return a, fmt.Errorf("%w: %s registers the account", taubyte.ErrUnavailable, arbiter)
	}
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	a, err = s.account(ctx)
	if errors.Is(err, taubyte.ErrNotFound) {
		if a, err = s.newAccount(ctx); err == nil {
			err = s.keepAccount(ctx, a)
		}
	}
	// Without an address configured, what a registered one has is left.
	if err != nil || a.URL != "" && (a.Contact == s.opts.email || s.opts.email == "") {
		return a, err
	}
	if err := s.register(ctx, &a); err != nil {
		return a, err
	}
	return a, s.keepAccount(ctx, a)
}

// newAccount makes an account's key, or takes over the account of an earlier version.
func (s *Service) newAccount(ctx context.Context) (a account, err error) {
	raw, err := s.local.Get(ctx, s.ownAccountKey())
	if err == nil {
		return a, decodeAccount(raw, &a)
	}
	if !errors.Is(err, ds.ErrNotFound) {
		return a, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return a, err
	}
	a.Directory = s.opts.directory
	a.Key, err = x509.MarshalPKCS8PrivateKey(key)
	return a, err
}

// tendAccount has the account's contact be the one that was configured, and leaves no key
// of an earlier version in clear.
func (s *Service) tendAccount(ctx context.Context, live []peer.ID) {
	arbiter := claim.Arbiter(arbiterKey, live) == s.host.ID()
	own, err := s.local.Has(ctx, s.ownAccountKey())
	if err != nil {
		s.opts.log.Warn("account at the certificate authority not read", "err", err)
		return
	}
	a, err := s.account(ctx)
	switch {
	case errors.Is(err, taubyte.ErrNotFound) && own && arbiter,
		err == nil && arbiter && a.URL != "" && a.Contact != s.opts.email && s.opts.email != "":
		_, err = s.ensureAccount(ctx)
	case errors.Is(err, taubyte.ErrNotFound):
		return
	}
	if err == nil && own {
		err = s.local.Delete(ctx, s.ownAccountKey())
	}
	if err != nil && ctx.Err() == nil {
		s.opts.log.Warn("account at the certificate authority not tended", "err", err)
	}
}

func (s *Service) serveAccount(ctx context.Context) (accountAnswer, error) {
	a, err := s.ensureAccount(ctx)
	return accountAnswer{a.URL}, err
}
