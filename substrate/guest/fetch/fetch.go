// Package fetch makes HTTP requests to the outside, as far as the host lets it.
// Addresses of private networks are refused.
//
//	response, err := fetch.Do(fetch.Request{URL: "https://example.com/"})
//	defer response.Body.Close()
//	if response.Status() != 200 {
//		…
//	}
//	page, err := io.ReadAll(response.Body)
package fetch

import (
	"io"
	"runtime"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Request is what to ask for.
type Request struct {
	Method string // GET where it is empty
	URL    string // with the scheme and the host
	Header map[string][]string
	Body   []byte
}

// methods have numbers, beginning with 1.
var methods = [...]string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"}

// client is the host's handle under which all requests are made.
var client struct {
	id   uint32
	made bool
}

// Do makes a request and waits for the head of the response, after redirections. Close
// its body. A response of any status is no error.
func Do(r Request) (*Response, error) {
	if !client.made {
		if e := sdk.NewHttpClient(&client.id); e != 0 {
			return nil, e
		}
		client.made = true
	}
	var id uint32
	if e := sdk.NewHttpRequest(client.id, &id); e != 0 {
		return nil, e
	}
	if e := sdk.SetHttpRequestURL(client.id, id, r.URL); e != 0 {
		return nil, e
	}
	number, err := methodNumber(r.Method)
	if err != nil {
		return nil, err
	}
	if e := sdk.SetHttpRequestMethod(client.id, id, number); e != 0 {
		return nil, e
	}
	for name, values := range r.Header {
		data, size := sdk.Data(sdk.Join(values))
		if e := sdk.SetHttpRequestHeader(client.id, id, name, data, size); e != 0 {
			return nil, e
		}
	}
	if len(r.Body) > 0 {
		data, size := sdk.Data(r.Body)
		if e := sdk.SetHttpRequestBody(client.id, id, data, size); e != 0 {
			return nil, e
		}
	}
	e := sdk.DoHttpRequest(client.id, id)
	runtime.KeepAlive(r.Body) // hosts may read it only now
	if e != 0 {
		return nil, e
	}
	return &Response{id: id, Body: body(id)}, nil
}

// Get is Do of a GET request.
func Get(url string) (*Response, error) { return Do(Request{URL: url}) }

func methodNumber(method string) (uint32, error) {
	if method == "" {
		return 1, nil
	}
	for i, m := range methods {
		if m == method {
			return uint32(i + 1), nil
		}
	}
	return 0, errno.InvalidMethod
}

// Response is the answer to a request.
type Response struct {
	id   uint32
	Body io.ReadCloser
}

// Status is the status of the response: 200, for one.
func (r *Response) Status() int {
	var status uint32
	sdk.GetHttpResponseStatus(client.id, r.id, &status)
	return int(status)
}

// Header are the values of a header. The case of name does not matter.
func (r *Response) Header(name string) []string {
	values, _ := sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.GetHttpResponseHeaderSize(client.id, r.id, name, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.GetHttpResponseHeader(client.id, r.id, name, b) })
	return values
}

// Headers are all headers, by their names in the canonical form ("Content-Type"), as
// http.Header has them.
func (r *Response) Headers() map[string][]string {
	headers := map[string][]string{}
	for _, name := range r.HeaderNames() {
		headers[name] = r.Header(name)
	}
	return headers
}

// HeaderNames are the names of the headers.
func (r *Response) HeaderNames() []string {
	names, _ := sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.GetHttpResponseHeaderKeysSize(client.id, r.id, n) },
		func(b *byte, n uint32) errno.Errno { return sdk.GetHttpResponseHeaderKeys(client.id, r.id, b, n) })
	return names
}

type body uint32

func (b body) Read(p []byte) (int, error) {
	return sdk.Stream(p, func(buf *byte, size uint32, n *uint32) errno.Errno {
		return sdk.ReadHttpResponseBody(client.id, uint32(b), buf, size, n)
	})
}

func (b body) Close() error { return sdk.CloseHttpResponseBody(client.id, uint32(b)).Err() }
