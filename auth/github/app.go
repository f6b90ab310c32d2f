package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"sync"
	"time"

	gh "github.com/google/go-github/v60/github"
	"golang.org/x/oauth2"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/internal/forge"
)

// app is an installation of a GitHub App: a source of tokens.
type app struct {
	id, installation int64
	pem              []byte
	key              *rsa.PrivateKey
	clock            forge.Clock
	api              func() (*gh.Client, error) // as the app, not the installation

	mu     sync.Mutex // one renewal at a time
	token  *oauth2.Token
	admins bool
}

const (
	// jwtFor is how long the app's own token is good: ten minutes are GitHub's most.
	jwtFor = 5 * time.Minute
	// renewBefore the end of an installation's token another is taken out.
	renewBefore = 5 * time.Minute
	renewTime   = time.Minute
)

func (a *app) open(p *Provider) error {
	block, _ := pem.Decode(a.pem)
	if block == nil {
		return fmt.Errorf("%w private key of a GitHub App: it is no PEM", taubyte.ErrInvalid)
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		parsed, err8 := x509.ParsePKCS8PrivateKey(block.Bytes)
		rsaKey, ok := parsed.(*rsa.PrivateKey)
		if err8 != nil || !ok {
			return fmt.Errorf("%w private key of a GitHub App: %w", taubyte.ErrInvalid, err)
		}
		key = rsaKey
	}
	a.key, a.clock, a.pem = key, p.o.clock, nil
	c := client(&forge.Limiter{Base: asApp{a, p.o.transport}, Clock: a.clock})
	a.api = func() (*gh.Client, error) {
		api := gh.NewClient(c)
		if p.o.enterprise == "" {
			return api, nil
		}
		return api.WithEnterpriseURLs(p.o.enterprise, p.o.enterprise)
	}
	return nil
}

// Token implements oauth2.TokenSource.
func (a *app) Token() (*oauth2.Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != nil && a.token.Expiry.Sub(a.clock.Now()) > renewBefore {
		return a.token, nil
	}
	api, err := a.api()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), renewTime) // others wait for it too
	defer cancel()
	t, resp, err := api.Apps.CreateInstallationToken(ctx, a.installation, &gh.InstallationTokenOptions{})
	if err != nil {
		if a.token != nil && a.token.Expiry.After(a.clock.Now()) {
			return a.token, nil
		}
		return nil, failed("taking out a token for an installation", resp, err)
	}
	a.token = &oauth2.Token{AccessToken: t.GetToken(), TokenType: "Bearer", Expiry: t.GetExpiresAt().Time}
	a.admins = t.GetPermissions().GetAdministration() == "write"
	return a.token, nil
}

// administers reports whether the installation may add deploy keys and webhooks.
func (a *app) administers() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.admins
}

// asApp sends the app's own token.
type asApp struct {
	app  *app
	base http.RoundTripper
}

func (t asApp) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := t.app.jwt()
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+token)
	return t.base.RoundTrip(req)
}

// jwt is the app's token (RFC 7519, RS256), begun a minute ago since clocks differ.
func (a *app) jwt() (string, error) {
	now := a.clock.Now()
	claims, err := json.Marshal(map[string]any{"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(jwtFor).Unix(), "iss": fmt.Sprint(a.id)})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return text + "." + encode(signature), nil
}
