package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/taubyte/taubyte/substrate/wire"
)

// pseudonym is the gateway's name in Via (RFC 9110, 7.6.3).
const pseudonym = "taubyte"

// outgoing is the request as a node gets it.
func (e *exchange) outgoing(ctx context.Context, c *Candidate) *http.Request {
	out := e.r.WithContext(ctx)
	out.RequestURI = ""
	out.Close = false // the user's connection is not the stream to the node
	u := *e.r.URL
	u.Scheme, u.Host = "http", c.Node.String()
	out.URL, out.Body = &u, e.send()
	h := make(http.Header, len(e.r.Header)+6)
	for k, v := range e.r.Header {
		if !ofConnection(k) && !claimed(k) {
			h[k] = v
		}
	}
	dropNamed(h, e.r.Header)
	if e.socket {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	client, _, err := net.SplitHostPort(e.r.RemoteAddr)
	if err != nil {
		client = e.r.RemoteAddr
	}
	proto := "http"
	if e.r.TLS != nil {
		proto = "https"
	}
	h["X-Forwarded-For"] = []string{client}
	h["X-Forwarded-Host"] = []string{e.r.Host}
	h["X-Forwarded-Proto"] = []string{proto}
	h["Via"] = via(h["Via"], e.r)
	h[wire.HeaderClient] = []string{e.r.RemoteAddr}
	h[wire.HeaderProto] = []string{proto}
	h[wire.HeaderRequest] = []string{requestID()}
	out.Header = h
	return out
}

// via adds this gateway to the intermediaries that a request names.
func via(before []string, r *http.Request) []string {
	this := "1.1 " + pseudonym
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		this = fmt.Sprintf("%d.%d %s", r.ProtoMajor, r.ProtoMinor, pseudonym)
	}
	if len(before) == 0 {
		return []string{this}
	}
	return []string{strings.Join(before, ", ") + ", " + this}
}

func requestID() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}

// ofConnection reports whether a header is about one connection, and not passed on
// (RFC 9110, 7.6.1).
func ofConnection(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
		"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info":
		return true
	}
	return false
}

// claimed reports whether a header is the gateway's own word: where a request comes
// from, and what nodes say to each other. The user's is not taken.
func claimed(name string) bool {
	return strings.HasPrefix(name, "Taubyte-") || strings.HasPrefix(name, "X-Forwarded-") || name == "Forwarded" || name == "X-Real-Ip"
}

// dropNamed drops what Connection says to be about one connection.
func dropNamed(h, from http.Header) {
	for _, names := range from["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
}

// dropClaims drops trailers that are the gateway's own word, or of one connection.
func dropClaims(trailer http.Header) {
	for k := range trailer {
		if ofConnection(k) || claimed(k) {
			delete(trailer, k)
		}
	}
}

// offersSocket reports whether a request offers to go on as a WebSocket (RFC 6455, 4.1).
// Any other offer is not taken: the request is one like others (RFC 9110, 7.8).
func offersSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade") &&
		httpguts.HeaderValuesContainsToken(r.Header["Upgrade"], "websocket")
}

// answerHeaders copies a node's headers for the user r.
func answerHeaders(to, from http.Header, status int, r *http.Request) {
	for k, v := range from {
		if !ofConnection(k) && !strings.HasPrefix(k, "Taubyte-") && !strings.HasPrefix(k, http.TrailerPrefix) {
			to[k] = v
		}
	}
	dropNamed(to, from)
	if status == http.StatusUpgradeRequired && r.ProtoMajor == 1 && len(from["Upgrade"]) > 0 {
		to["Upgrade"] = from["Upgrade"] // which it has to say (RFC 9110, 15.5.22)
		option := "Upgrade"
		if r.Close || len(to["Connection"]) > 0 {
			option = "Upgrade, close" // in one line, or the server would replace it
		}
		to["Connection"] = []string{option}
	}
}

// announced are the trailers that a header names and that may be passed on.
func announced(names ...string) []string {
	var all []string
	for _, list := range names {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)); passedTrailer(name) && !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return all
}

// passedTrailer reports whether a node's trailer is passed on.
func passedTrailer(name string) bool {
	return httpguts.ValidTrailerHeader(name) && !ofConnection(name) && !strings.HasPrefix(name, "Taubyte-")
}
