//go:build !wasip1

package guesttest

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// request is one of package fetch.
type request struct {
	method   string
	url      *url.URL
	header   http.Header
	body     []byte
	response *http.Response
}

var methods = [...]string{"", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"}

func (r *request) end() {
	if r.response != nil {
		_ = r.response.Body.Close()
	}
}

func (h *Host) fetches() {
	f := &sdk.Fake
	at := func(id uint32) *request {
		if int(id) < len(h.requests) {
			return h.requests[id]
		}
		return nil
	}
	answered := func(id uint32) *http.Response {
		if r := at(id); r != nil {
			return r.response
		}
		return nil
	}
	f.NewHttpClient = func(id *uint32) errno.Errno { *id = 0; return errno.None }
	f.NewHttpRequest = func(_ uint32, id *uint32) errno.Errno {
		*id = uint32(len(h.requests))
		h.requests = append(h.requests, &request{method: http.MethodGet, header: http.Header{}})
		return errno.None
	}
	f.SetHttpRequestURL = func(_, id uint32, text string) errno.Errno {
		r := at(id)
		u, err := url.Parse(text)
		if r == nil || err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return errno.ParseUrlFailed
		}
		r.url = u
		return errno.None
	}
	f.SetHttpRequestMethod = func(_, id, method uint32) errno.Errno {
		r := at(id)
		if r == nil || method == 0 || int(method) >= len(methods) {
			return errno.InvalidMethod
		}
		r.method = methods[method]
		return errno.None
	}
	f.SetHttpRequestHeader = func(_, id uint32, name string, p *byte, n uint32) errno.Errno {
		r := at(id)
		if r == nil {
			return errno.AddressOutOfMemory
		}
		r.header.Del(name)
		for value := range strings.SplitSeq(strings.TrimSuffix(string(view(p, n)), "\x00"), "\x00") {
			r.header.Add(name, value)
		}
		return errno.None
	}
	f.SetHttpRequestBody = func(_, id uint32, p *byte, n uint32) errno.Errno {
		r := at(id)
		if r == nil {
			return errno.AddressOutOfMemory
		}
		r.body = slices.Clone(view(p, n))
		return errno.None
	}
	f.DoHttpRequest = func(_, id uint32) errno.Errno {
		r := at(id)
		if r == nil || r.url == nil || h.Fetch == nil {
			return errno.HttpRequestFailed
		}
		req, err := http.NewRequest(r.method, r.url.String(), bytes.NewReader(r.body))
		if err != nil {
			return errno.HttpRequestFailed
		}
		req.Header = r.header
		if host := r.header.Get("Host"); host != "" {
			req.Host = host
		}
		if r.response, err = (&http.Client{Transport: h.Fetch}).Do(req); err != nil {
			h.t.Logf("fetch: %v", err)
			r.response = nil
			return errno.HttpRequestFailed
		}
		return errno.None
	}
	f.GetHttpResponseStatus = func(_, id uint32, status *uint32) errno.Errno {
		r := answered(id)
		if r == nil {
			return errno.HttpRequestFailed
		}
		*status = uint32(r.StatusCode)
		return errno.None
	}
	f.ReadHttpResponseBody = func(_, id uint32, p *byte, size uint32, n *uint32) errno.Errno {
		r := answered(id)
		if r == nil {
			return errno.HttpRequestFailed
		}
		return read(r.Body, p, size, n, errno.HttpReadBody)
	}
	f.CloseHttpResponseBody = func(_, id uint32) errno.Errno {
		if r := answered(id); r == nil {
			return errno.HttpRequestFailed
		} else if r.Body.Close() != nil {
			return errno.CloseBody
		}
		return errno.None
	}
	header := func(id uint32, of func(http.Header) []string) (string, errno.Errno) {
		r := answered(id)
		if r == nil {
			return "", errno.HttpRequestFailed
		}
		return joined(of(r.Header)), errno.None
	}
	size, get := pair2(func(id uint32, name string) (string, errno.Errno) {
		return header(id, func(h http.Header) []string { return h.Values(name) })
	})
	f.GetHttpResponseHeaderSize = func(_, id uint32, name string, n *uint32) errno.Errno { return size(id, name, n) }
	f.GetHttpResponseHeader = func(_, id uint32, name string, p *byte) errno.Errno { return get(id, name, p) }
	keysSize, keys := pair1(func(id uint32) (string, errno.Errno) {
		return header(id, func(h http.Header) []string { return slices.Sorted(maps.Keys(h)) })
	})
	f.GetHttpResponseHeaderKeysSize = func(_, id uint32, n *uint32) errno.Errno { return keysSize(id, n) }
	f.GetHttpResponseHeaderKeys = func(_, id uint32, p *byte, _ uint32) errno.Errno { return keys(id, p) }
}

// Handler is an http.RoundTripper that has a handler answer, for Host.Fetch: nothing leaves
// the process, whatever host the function asks.
func Handler(handler http.Handler) http.RoundTripper { return transport{handler} }

type transport struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	t.handler.ServeHTTP(w, r)
	response := w.Result()
	response.Request = r
	return response, nil
}
