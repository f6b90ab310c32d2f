package cloud

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Who a request to the API and to git is of. It shows the node's own token, which is the
// administrator's; a token that auth keeps; or, to git alone, the credential of a
// repository, which is made of the node's token and so kept nowhere.

// gitCredentialPrefix is what the credentials of repositories begin with.
const gitCredentialPrefix = "git_"

// gitCredential is what opens one repository at this node's git, and nothing else.
func (n *Node) gitCredential(repository string) string {
	mac := hmac.New(sha256.New, []byte(n.token))
	mac.Write([]byte("taubyte git credential 1\x00" + repository))
	return gitCredentialPrefix + hex.EncodeToString(mac.Sum(nil))
}

// same compares in constant time, also in the length.
func same(shown, secret string) bool {
	a, b := sha256.Sum256([]byte(shown)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// shown returns the secret that a request shows: a bearer token, or the password of
// basic authentication, which is what git can send.
func shown(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	_, password, _ := r.BasicAuth()
	return password
}

// caller returns whose a request is. repository is that of a request to git. Where it
// can't be said the request is answered.
func (n *Node) caller(w http.ResponseWriter, r *http.Request, repository string) (taubyte.Principal, bool) {
	secret := shown(r)
	switch {
	case secret == "":
		n.challenge(w, repository, "this wants a token: see \"taubyte token\"")
		return taubyte.Principal{}, false
	case same(secret, n.token):
		return taubyte.Administrator(), true
	case repository == "" && strings.HasPrefix(secret, gitCredentialPrefix):
		rpc.WriteError(w, fmt.Errorf("%w: the credential of a git repository opens that repository and nothing else", taubyte.ErrForbidden), nil)
		return taubyte.Principal{}, false
	}
	from := remoteHost(r)
	if wait := n.attempts.wait(from, secret); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		refuse(w, repository != "", http.StatusTooManyRequests, api.CodeManyTokens, "too many wrong tokens from this address: wait a little")
		return taubyte.Principal{}, false
	}
	p, err := n.principal(r.Context(), secret, repository)
	switch {
	case err == nil:
		n.attempts.good(secret)
		return p, true
	case errors.Is(err, taubyte.ErrForbidden):
		n.attempts.bad(from)
		n.challenge(w, repository, err.Error())
	default:
		n.log.Warn("a token can't be looked up", "err", err)
		w.Header().Set("Retry-After", "2")
		refuse(w, repository != "", http.StatusServiceUnavailable, "unavailable", "no node of role auth answers whose this token is")
	}
	return taubyte.Principal{}, false
}

func (n *Node) principal(ctx context.Context, secret, repository string) (taubyte.Principal, error) {
	if repository != "" && strings.HasPrefix(secret, gitCredentialPrefix) {
		if !same(secret, n.gitCredential(repository)) {
			return taubyte.Principal{}, fmt.Errorf("%w: this is not the credential of the repository %s", taubyte.ErrForbidden, repository)
		}
		return taubyte.Principal{
			Kind: taubyte.KindUser, Name: "git credential of " + repository, Verb: taubyte.VerbDeploy,
			Repositories: []taubyte.RepositoryID{auth.NewRepositoryID(n.git.Name(), repository)},
		}, nil
	}
	return n.tokens.Authenticate(taubyte.AsService(ctx), secret)
}

func (n *Node) challenge(w http.ResponseWriter, repository, text string) {
	scheme := `Bearer realm="taubyte"`
	if repository != "" {
		scheme = `Basic realm="taubyte git"`
	}
	w.Header().Set("WWW-Authenticate", scheme)
	refuse(w, repository != "", http.StatusUnauthorized, api.CodeNoToken, text)
}

// refuse answers like the services do; to git in text, which it shows its user.
func refuse(w http.ResponseWriter, git bool, status int, code, text string) {
	if git {
		http.Error(w, text, status)
		return
	}
	rpc.Refuse(w, status, code, text)
}

// authenticated makes whoever shows a token the principal of a request to the API.
func (n *Node) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := n.caller(w, r, "")
		if !ok {
			return
		}
		if len(p.Repositories) > 0 {
			rpc.WriteError(w, fmt.Errorf("%w: %s opens git repositories and nothing else", taubyte.ErrForbidden, p), nil)
			return
		}
		ctx := taubyte.WithPrincipal(r.Context(), p)
		if !p.Until.IsZero() { // what is followed ends with the token
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, p.Until)
			defer cancel()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// remoteHost is the caller that attempts are counted of: an address, or the network of
// an IPv6 address that one user has.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip := net.ParseIP(host)
	if ip == nil || ip.To4() != nil {
		return host
	}
	return ip.Mask(net.CIDRMask(64, 128)).String()
}

// ownNames are the host names under which the API may be asked, beside addresses and
// those of loopback.
func (n *Node) ownNames(member string) []string {
	names := slices.Clone(n.opts.apiHosts)
	if host, _, err := net.SplitHostPort(n.opts.api); err == nil && host != "" {
		names = append(names, host)
	}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	if member != "" {
		names = append(names, member)
		if n.opts.zone != "" {
			names = append(names, member+"."+n.opts.zone)
		}
	}
	for i, name := range names {
		names[i] = strings.ToLower(strings.TrimSuffix(name, "."))
	}
	return names
}

// fromHere lets requests through that no foreign web page has made. A page of a name
// that its owner has made to lead here (DNS rebinding) is seen by the Host that it sends,
// and other pages by what browsers say of where a request comes from. Clients that are
// no browsers send neither.
func fromHere(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		git := strings.HasPrefix(r.URL.Path, "/git/")
		if !knownHost(r.Host, names) {
			refuse(w, git, http.StatusForbidden, "forbidden", fmt.Sprintf("this API is not served under the name %.100q (api-hosts in the node's configuration, or cloud.WithAPIHosts, adds names)", r.Host))
			return
		}
		if !sameSite(r) {
			refuse(w, git, http.StatusForbidden, "forbidden", "this API is not for other sites' pages")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knownHost reports whether a Host header names this node. An address is not a name
// that somebody can lead here.
func knownHost(host string, names []string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	return net.ParseIP(name) != nil || name == "localhost" || slices.Contains(names, name)
}

func sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && u.Host == r.Host
}

// mayGit says whether the principal of ctx may read a repository of the node's git, or
// push to it. To a name that is of no project those may push who may administer
// something: what it is to be of is seen when the push is there (see admit).
func (n *Node) mayGit(ctx context.Context, name string, write bool) error {
	p := taubyte.PrincipalOf(ctx)
	if err := taubyte.AllowNode(ctx, taubyte.RoleAuth); err != nil || p.Kind == taubyte.KindNode {
		return err
	}
	id := auth.NewRepositoryID(n.git.Name(), name)
	r, err := n.repository(ctx, id)
	if errors.Is(err, taubyte.ErrNotFound) {
		if write && p.Kind == taubyte.KindUser && len(p.Repositories) == 0 && p.Verb.Includes(taubyte.VerbAdminister) {
			return nil
		}
		return p.MayGit(id, "", write)
	}
	if err != nil {
		return err
	}
	return p.MayGit(id, r.Project, write)
}

// repository asks the node's auth, which git is there before.
func (n *Node) repository(ctx context.Context, id taubyte.RepositoryID) (auth.Repository, error) {
	select {
	case <-n.started:
	case <-ctx.Done():
		return auth.Repository{}, fmt.Errorf("%w: this node is starting", taubyte.ErrUnavailable)
	}
	return n.Auth.Repository(taubyte.AsService(ctx), id)
}
